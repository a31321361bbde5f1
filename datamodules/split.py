"""Train, validation and test cases of the source, by patient: a pure function of seed and patient ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import UsageError
from datamodules.randomness import key_seed

if TYPE_CHECKING:
    from datamodules.config import SplitConfig

PARTS = ("train", "validation", "test")
MIN_FOLDS = 3


@dataclass(frozen=True)
class Split:
    """Case ids of the source, each list sorted."""

    train: list[str]
    validation: list[str]
    test: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, list[str]]:
        """Plain containers, as they go into JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, list[str]]) -> Split:
        """The split that :meth:`to_dict` gave."""
        return cls(**{part: list(values[part]) for part in PARTS})


def split_cases(cases: Sequence[tuple[str, str]], config: SplitConfig) -> Split:
    """Split the source's cases so that a patient's cases stay together.

    Args:
        cases: (case, patient) in any order.
        config: folds, or the user's own file.

    Raises:
        UsageError: too few patients, no such fold, or a split file that can't be followed.
    """
    if config.file is not None:
        return _from_file(Path(config.file).expanduser(), dict(cases))
    if config.folds < MIN_FOLDS:
        raise UsageError(
            f"data.split.folds is {config.folds}: at least {MIN_FOLDS} are needed to train, validate and test"
        )
    if not 0 <= config.fold < config.folds:
        raise UsageError(f"data.split.fold is {config.fold}, and there are folds 0 to {config.folds - 1}")
    # Ordered by a hash, so that neither the order nor the names of patients tell where they go.
    patients = sorted(
        {patient for _, patient in cases}, key=lambda patient: (key_seed(config.seed, "split", patient), patient)
    )
    if len(patients) < config.folds:
        raise UsageError(
            f"the source has {len(patients)} patient{'s' * (len(patients) != 1)} that can be used, too few for "
            f"data.split.folds={config.folds}: name them in a data.split.file, or bring more cases"
        )
    fold = {patient: place % config.folds for place, patient in enumerate(patients)}
    validation = (config.fold + 1) % config.folds
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for case, patient in sorted(cases):
        part = {config.fold: "test", validation: "validation"}.get(fold[patient], "train")
        parts[part].append(case)
    return Split.from_dict(parts)


def _from_file(path: Path, patients: dict[str, str]) -> Split:
    """The user's own split.

    Args:
        path: a JSON object with the lists ``train``, ``validation`` and, if there is one, ``test``.
        patients: the patient of each case that can be used.
    """
    parts = _lists(path)
    where: dict[str, str] = {}
    side: dict[str, tuple[str, str]] = {}
    unknown = [case for part in parts.values() for case in part if case not in patients]
    if unknown:
        raise UsageError(
            f"data.split.file {path} names cases that the source does not have or that were excluded: {_named(unknown)}"
        )
    for part, cases in parts.items():
        for case in cases:
            if case in where:
                raise UsageError(f"data.split.file {path} names case {case!r} in {where[case]!r} and in {part!r}")
            where[case] = part
            other, first = side.setdefault(patients[case], (part, case))
            if other != part:
                raise UsageError(
                    f"data.split.file {path} parts patient {patients[case]!r}: case {first!r} is in {other!r} "
                    f"and case {case!r} in {part!r}"
                )
    for part in ("train", "validation"):
        if not parts[part]:
            raise UsageError(f"data.split.file {path} has no cases in {part!r}")
    return Split.from_dict({part: sorted(cases) for part, cases in parts.items()})


def _lists(path: Path) -> dict[str, list[str]]:
    try:
        values: Any = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(f"data.split.file {path} can't be read as JSON: {error}") from error
    fits = isinstance(values, dict) and set(values) <= set(PARTS) and {"train", "validation"} <= set(values)
    if not fits or not all(
        isinstance(cases, list) and all(isinstance(case, str) for case in cases) for cases in values.values()
    ):
        raise UsageError(
            f"data.split.file {path} must hold a JSON object with the lists 'train', 'validation' and 'test' "
            f"of case ids"
        )
    return {part: values.get(part, []) for part in PARTS}


def _named(cases: list[str]) -> str:
    return ", ".join(cases[:5]) + (f" and {len(cases) - 5} more" if len(cases) > 5 else "")
