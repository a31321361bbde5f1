"""What a person did wrong, said in one sentence: the command prints it and leaves with exit code 2."""

from __future__ import annotations

from collections.abc import Sequence


class UsageError(Exception):
    """A mistake in the configuration, the command line or the data that the user can mend.

    The message is one sentence: what is wrong, where (file and key, or site and case), and the way out.
    """


class ConfigurationErrors(UsageError):
    """Every fault of a configuration at once, one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class CaseError(UsageError):
    """A case that can't be used. Whoever catches it knows the site and the case and goes on with the rest."""
