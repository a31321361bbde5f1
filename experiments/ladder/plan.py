"""Which rungs a ladder has: one for each factor and level, and one that they all start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datamodules.errors import UsageError
from experiments.configuration.faults import did_you_mean

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
CASES = 8
"""Phantoms that a ladder is climbed with, unless another number is asked for."""
SEED = 91733
"""Of the ladder's own patients, who are of no site, and of every draw of a simulated acquisition."""


@dataclass(frozen=True)
class Factor:
    """Something that differs between sites and can be altered alone.

    Attributes:
        name: as on the command line.
        zero: what level 0 is.
        one: what level 1 is; in between it is a mixture.
    """

    name: str
    zero: str
    one: str

    @property
    def said(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Rung:
    """Where on the ladder a case stands.

    Attributes:
        factor: the one that is altered; empty at the ladder's foot, where none is.
        level: of the factor, from 0 to 1.
    """

    factor: str
    level: float

    @property
    def name(self) -> str:
        """A name for files: ``foot``, ``noise_0.25``."""
        return f"{self.factor}_{self.level:g}" if self.factor else "foot"


FOOT = Rung("", 0.0)
"""Level 0 of every factor."""


@dataclass(frozen=True)
class Plan:
    """What a ladder measures.

    Attributes:
        factors: to climb, one at a time.
        levels: rising, from 0 on.
    """

    factors: tuple[Factor, ...]
    levels: tuple[float, ...]

    def rungs(self) -> list[Rung]:
        """Every rung once, the foot first."""
        return [FOOT, *(Rung(factor.name, level) for factor in self.factors for level in self.levels[1:])]

    def rung(self, factor: str, level: float) -> Rung:
        """The rung of a factor at a level."""
        return Rung(factor, level) if level > 0 else FOOT


def plan(known: Sequence[Factor], factors: Sequence[str], levels: Sequence[float]) -> Plan:
    """The plan that a command line asks for.

    Args:
        known: the factors that there are.
        factors: names of those that are wanted; all of them where empty.
        levels: wanted levels, in any order; 0 is always among them.

    Raises:
        UsageError: a factor is not known, or a level lies outside 0 to 1, or there is none above 0.
    """
    names = {factor.name: factor for factor in known}
    for name in factors:
        if name not in names:
            raise UsageError(f"--factors: there is no factor {name!r}; {did_you_mean(name, names)}")
    for level in levels:
        if not 0.0 <= level <= 1.0:
            raise UsageError(f"--levels: {level:g} is not among the levels, which go from 0 to 1.")
    rising = tuple(sorted({0.0, *(round(level, 4) for level in levels)}))
    if len(rising) < 2:
        raise UsageError("--levels: a ladder needs a level above 0, such as --levels 0,0.5,1.")
    return Plan(tuple(names[name] for name in dict.fromkeys(factors)) or tuple(known), rising)
