"""What the panels of a run are called: ``panels/step_000500.png``."""

from __future__ import annotations

import re
from pathlib import Path

_FILE = re.compile(r"step_(\d{6,})\.png")


def panel_path(folder: Path, step: int) -> Path:
    """The picture of a step."""
    return folder / f"step_{step:06d}.png"


def panels(folder: Path) -> dict[int, Path]:
    """The pictures of a run by step, in rising order."""
    found = ((_FILE.fullmatch(path.name), path) for path in folder.glob("step_*.png"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))
