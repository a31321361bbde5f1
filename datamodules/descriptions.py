"""What is kept of a case beside what training reads: its descriptor, to know it again, and its statistics.

They stand in files of their own, named by their versions: a store that was filled before them, or by another version,
gets them from what it holds, and no original is opened again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datamodules.atomic import atomic_file, write_json
from datamodules.case_statistics import STATISTICS, measure
from datamodules.overlap import DESCRIPTOR
from datamodules.store import StoredCase
from datamodules.writing import writing

if TYPE_CHECKING:
    from datamodules.descriptor import Descriptor


def described(case: StoredCase) -> bool:
    """Whether a case has all that is kept of it."""
    return (case.folder / DESCRIPTOR).is_file() and (not case.labelled or (case.folder / STATISTICS).is_file())


def describe_original(folder: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write the descriptor of an original into a case's folder.

    Args:
        folder: of the case.
        voxels: HU, in the file's own order of axes.
        affine: 4×4, voxel to world in RAS mm.
    """
    from nibabel.orientations import io_orientation

    from datamodules.descriptor import describe

    order = np.argsort(io_orientation(affine)[:, 0])
    edges = np.linalg.norm(affine[:3, :3], axis=0)[order]
    _write(folder, describe(voxels.transpose(order), edges))


def complete(folder: Path) -> None:
    """Write what a prepared case lacks, from what the store holds of it.

    Raises:
        UsageError: the store can't be written to.
    """
    case = StoredCase(folder)
    with writing(folder.parent):
        if not (folder / DESCRIPTOR).is_file():
            from datamodules.descriptor import describe

            _write(folder, describe(case.image(), np.array(case.record.spacing)))
        if case.labelled and not (folder / STATISTICS).is_file():
            write_json(folder / STATISTICS, measure(case))


def _write(folder: Path, descriptor: Descriptor) -> None:
    with atomic_file(folder / DESCRIPTOR, "wb") as file:
        descriptor.write(file)
