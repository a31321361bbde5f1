"""What an evaluation keeps of a case to draw it: a damaged file is a sentence with the way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import UsageError
from experiments.report.overlays import read_slices
from experiments.report.volumes import _read as read_volume


@pytest.mark.parametrize("kept", [None, 0, 30, 0.5, -1], ids=["missing", "empty", "head", "half", "no end"])
def test_a_damaged_file_is_told_with_the_way_out(tmp_path: Path, kept: float | None) -> None:
    file = tmp_path / "case.npz"
    if kept is not None:
        np.savez_compressed(file, image=np.arange(5000) % 251)
        whole = file.read_bytes()
        file.write_bytes(whole[: int(kept * len(whole)) if kept == 0.5 else int(kept)])
    for read in (read_slices, read_volume):
        with pytest.raises(UsageError, match=r"case\.npz: not the .* of a case \(.*\); evaluate the run again\."):
            read(file)
