"""A room imports only from the floors below, and what the command needs at once comes without torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
FLOORS = ("datamodules", "lightning_modules", "callbacks", "experiments")  # from the ground up
LIGHT = ("experiments.cli", "experiments.config", "datamodules.config", "lightning_modules.config")
HEAVY = ("torch", "monai", "torchio", "lightning", "pytorch_lightning", "scipy", "nibabel", "optuna")
_TARGET = re.compile(rf"((?:{'|'.join(FLOORS)})(?:\.\w+)+):\w+")


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every module that ``source`` imports, inside functions and by a registry's target too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
        elif isinstance(node, ast.Constant) and (target := _TARGET.fullmatch(str(node.value))):
            yield node.lineno, target[1]


def climbs(room: str, source: str) -> list[str]:
    """The imports of ``source``, a file of ``room``, that lead to a floor above, or to the tests."""
    above = {*FLOORS[FLOORS.index(room) + 1 :], "tests"}
    return [f"line {line}: {name}" for line, name in imported(source) if name.partition(".")[0] in above]


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_from_the_floors_below(room: str) -> None:
    files = sorted((HOUSE / room).rglob("*.py"))
    assert files
    found = {str(file.relative_to(HOUSE)): climbs(room, file.read_text(encoding="utf-8")) for file in files}
    assert {file: lines for file, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import callbacks.progress",
        "def f():\n    from lightning_modules import metrics",
        "from experiments.config import ExperimentConfig as E",
        "REGISTRY.register('x', target='lightning_modules.optimisation:adamw')",
    ],
)
def test_an_import_upwards_would_be_found(source: str) -> None:
    assert len(climbs("datamodules", source)) == 1
    assert climbs("experiments", source) == []


def test_help_configuration_and_sites_need_no_torch() -> None:
    code = (
        "import sys, importlib\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    print(name, *(heavy for heavy in {HEAVY!r} if heavy in sys.modules), sep=' ')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == list(LIGHT), "what follows a name came in with it"
