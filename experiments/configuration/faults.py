"""The faults of a configuration, gathered so that they are all told at once."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from datamodules.errors import ConfigurationErrors


class Faults:
    """Sentences, each with the place to mend; and the keys that have one already.

    Attributes:
        incomplete: a file could not be read, so a key that seems to be missing may stand there.
    """

    def __init__(self) -> None:
        self.incomplete = False
        self._sentences: dict[str, None] = {}
        self._keys: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._sentences)

    def add(self, where: str, key: str, problem: str) -> None:
        """Note that ``key``, set at ``where``, has a problem; an empty key stands for a whole file."""
        self._keys.add(key)
        self._sentences[f"{where}: {key}: {problem}" if key else f"{where}: {problem}"] = None

    def doubt(self, key: str) -> None:
        """Note that the value of ``key`` is not to be relied on, though no sentence is due."""
        self._keys.add(key)

    def touches(self, key: str) -> bool:
        """Whether the value of ``key`` is not to be relied on: it, or what it lies in, has a fault already."""
        return any(key == known or key.startswith(f"{known}.") for known in self._keys)

    def raise_any(self) -> None:
        """Raise all of them.

        Raises:
            ConfigurationErrors: there is at least one.
        """
        if self._sentences:
            raise ConfigurationErrors(list(self._sentences))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all where none is near."""
    names = list(known)
    folded = {candidate.casefold(): candidate for candidate in names}
    near = get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    if not names:
        return "there are none to choose from."
    return f"known: {', '.join(names)}."
