"""The words of a command line told apart: a command's own, and overrides of the experiment."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.errors import UsageError
from experiments.config import EvaluationConfig
from experiments.configuration.faults import did_you_mean
from experiments.configuration.schema import ROOT, slots

_ASSIGNMENT = re.compile(r"\+{0,2}[A-Za-z_][\w.+-]*=.*", re.DOTALL)

_VALUED = (
    "--predictions", "--output", "--seeds", "--jobs", "--limit", "--only", "--look", "--results", "--reference",
    "--trials", "--sweep", "--array", "--on", "--cases", "--levels", "--factors",
)  # fmt: skip
_SWEEP = ("--show", "--repair", "--allow-peeking", "--next")
_PLAIN = ("--fresh", "--inexact", "--dry-run", "--submit", "--write", "--uncertainty")
_OPTIONS = ("-h", "--help", *_PLAIN, *_SWEEP, *_VALUED)
_VALUES = {("sites", "--write"): 2}
"""How many words follow an option of a command, where it is neither none nor, of those above, one."""


Handler = Callable[[argparse.Namespace, list[str]], int]
"""Does what a command asks for, given its own words and the overrides; the exit code."""
Add = Callable[[Any, str, str, Handler], argparse.ArgumentParser]
"""Adds a command to those of argparse: by name, description and handler."""


@dataclass(frozen=True)
class Words:
    """A command line, sorted.

    Attributes:
        own: options and arguments of the command itself, for argparse.
        overrides: ``key=value``, in their order.
    """

    own: list[str]
    overrides: list[str]


def sort_words(words: Sequence[str]) -> Words:
    """Tell overrides from a command's own words.

    Raises:
        UsageError: an option that is neither a command's own nor a key of an experiment.
    """
    own: list[str] = []
    options: list[str] = []
    overrides: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, _ = word.partition("=")
        if option in _OPTIONS:
            options.append(word)
            values = _VALUES.get((own[0] if own else "", option), int(option in _VALUED and not equals))
            options += rest[:values]
            del rest[:values]
        elif word.startswith("--") and len(word) > 2:
            _refuse_unknown(option)
            if not equals:
                if not rest or rest[0].startswith("--"):
                    raise UsageError(f"{word}: has no value; write {word}=VALUE.")
                word = f"{word}={rest.pop(0)}"
            overrides.append(word[2:])
        elif _ASSIGNMENT.fullmatch(word):
            overrides.append(word.lstrip("+"))
        elif word.startswith("-"):
            raise UsageError(f"{word}: is no option; {did_you_mean(word, _OPTIONS)}")
        else:
            own.append(word)
    # argparse wants the arguments of one kind side by side.
    return Words([*own, *options], overrides)


def with_evaluation_keys(overrides: Sequence[str]) -> list[str]:
    """Overrides of a command that only evaluates: ``checkpoint=last`` means ``evaluation.checkpoint=last``."""
    short = set(slots(EvaluationConfig)) - set(slots(ROOT.kind))
    return [f"evaluation.{word}" if word.partition("=")[0] in short else word for word in overrides]


def count_of(option: str) -> Callable[[str], int]:
    """What reads the value of an option that counts something; argparse's ``type``.

    It raises UsageError where the value is no whole number from 1 on.
    """

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"{option}: expects a whole number of at least 1, not {text!r}.")
        return int(text)

    return read


def names(text: str) -> tuple[str, ...]:
    """Names that are parted by commas; argparse's ``type``."""
    return tuple(name for name in text.split(",") if name)


def _refuse_unknown(option: str) -> None:
    key = option[2:].partition(".")[0]
    sections = [*slots(ROOT.kind), *slots(EvaluationConfig), "_wandb"]
    if key not in sections and "." not in option:
        known = [*_OPTIONS, *(f"--{section}" for section in sections if section != "_wandb")]
        raise UsageError(f"{option}: is neither an option nor a key of an experiment; {did_you_mean(option, known)}")


class Parser(argparse.ArgumentParser):
    """argparse, with one sentence for a mistake instead of the usage and an exit."""

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse exits here; main() does it for us
        """Raise what argparse has to say.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help.")
