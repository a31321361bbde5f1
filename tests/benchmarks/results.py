"""What a benchmark reached, as a table on the terminal and as its section of RESULTS.md.

A section stands between two comments that name the benchmark; writing it again replaces that section alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from datamodules.atomic import write_text
from experiments.environment import environment
from tests.benchmarks import peers
from tests.benchmarks.turns import Ratio

FILE = Path(__file__).with_name("RESULTS.md")
HEAD = """# What the benchmarks reached

Each section is written by the command above its table. A ratio is the median of pairs measured by turns, with its 95 %
interval; both sides have the same arrays, network, patch, precision and threads. `python -m tests.benchmarks.all` does
them all.
"""
PACKAGES = ("pansite", "torch", "pytorch-lightning", "monai", "numpy", "blosc2", "SimpleITK")


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        quick: small arrays and few rounds: to see that it runs, not what it takes.
        nnunet: whether nnU-Net takes part, which needs the peers' environment.
        threads: of each side.
        scratch: a folder that is gone afterwards.
    """

    quick: bool
    nnunet: bool
    threads: int
    scratch: Path

    def peers(self) -> Path | None:
        """The interpreter of the peers' environment; without nnU-Net Pansite's own, which has MONAI too."""
        return peers.python() if self.nnunet else None


@dataclass(frozen=True)
class Line:
    """A target and what was reached.

    Attributes:
        what: is compared.
        peer: with what.
        target: as the words say it.
        reached: the ratio, or a number with its unit.
        met: whether it is within the target; None where there is none.
        detail: absolute numbers, for orientation.
    """

    what: str
    peer: str
    target: str
    reached: str
    met: bool | None
    detail: str = ""


def at_most(what: str, peer: str, ratio: Ratio | float, target: float, detail: str = "") -> Line:
    """A ratio that shall not be above ``target``."""
    return Line(what, peer, f"≤ {target:g}×", _told(ratio), _middle(ratio) <= target, detail)


def at_least(what: str, peer: str, ratio: Ratio | float, target: float, detail: str = "") -> Line:
    """A ratio that shall not be below ``target``."""
    return Line(what, peer, f"≥ {target:g}×", _told(ratio), _middle(ratio) >= target, detail)


def gib(size: float) -> str:
    """Bytes in GiB."""
    return f"{size / 2**30:.2f} GiB"


def table(lines: Sequence[Line]) -> str:
    """Lines as Markdown."""
    rows = ["| what | peer | target | reached (95 %) | met | absolute |", "|---|---|---|---|---|---|"]
    for line in lines:
        met = "" if line.met is None else "yes" if line.met else "no"
        rows.append(f"| {line.what} | {line.peer} | {line.target} | {line.reached} | {met} | {line.detail} |")
    return "\n".join(rows)


def write(name: str, title: str, lines: Sequence[Line], scale: Scale, file: Path = FILE) -> None:
    """Put a benchmark's section into ``file``, whole or not at all; others stay as they are.

    Args:
        name: of the module in ``tests/benchmarks/``.
        title: of the section.
        lines: its table.
        scale: what was measured.
        file: where the sections stand.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    section = (
        f"{begin}\n## {title}\n\n`python -m tests.benchmarks.{name}`\n\n{table(lines)}\n\n{_under(scale)}\n{end}\n"
    )
    text = file.read_text("utf-8") if file.is_file() else HEAD
    old = re.compile(re.escape(begin) + ".*?" + re.escape(end) + "\n", re.S)
    write_text(file, old.sub(lambda _: section, text) if old.search(text) else f"{text}\n{section}")


def present(name: str, title: str, doc: str | None, measure: Callable[[Scale], list[Line]]) -> None:
    """The command of a benchmark: measure, print, and enter the result unless it was a quick one."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small, and not entered in RESULTS.md")
    parser.add_argument("--without-nnunet", action="store_true", help="what needs no other environment; not entered")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pansite-benchmark-") as scratch:
        scale = Scale(options.quick, not options.without_nnunet, options.threads, Path(scratch))
        lines = measure(scale)
    print(table(lines))
    if scale.quick or not scale.nnunet:
        print("not entered in RESULTS.md: it was not all measured at its real size", file=sys.stderr)
        return
    write(name, title, lines, scale)


def _told(ratio: Ratio | float) -> str:
    return str(ratio) if isinstance(ratio, Ratio) else f"{ratio:.2f}×"


def _middle(ratio: Ratio | float) -> float:
    return ratio.middle if isinstance(ratio, Ratio) else ratio


def _under(scale: Scale) -> str:
    """When, on what and with which versions."""
    known = environment()
    git = known["git"]
    commit = "" if git is None else f" ({git['commit'][:7]}{', changed' if git['changed'] else ''})"
    ours = ", ".join(f"{name} {known['packages'].get(name)}" for name in PACKAGES)
    theirs = ", ".join(f"{name} {version}" for name, version in peers.versions().items())
    load = os.getloadavg()[0]
    return (
        f"{date.today()}; {_processor()}, {len(os.sched_getaffinity(0))} cores, {scale.threads} threads a side, "
        f"load {load:.1f} at the end; Python {platform.python_version()}{commit}.  \n"
        f"Pansite's: {ours}.  \nThe peers': {theirs}."
    )


def _processor() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()
