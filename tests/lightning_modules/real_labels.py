"""Surroundings of the pancreas in two real patients (of ``PANSITE_TEST_DATA``), at any training spacing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

PATIENTS = ("s0327", "s0328")
SPLEEN, PANCREAS, DUODENUM = 1, 7, 19

needs_labels = pytest.mark.skipif(
    "PANSITE_TEST_DATA" not in os.environ, reason="PANSITE_TEST_DATA names no folder with real label maps"
)


@contextmanager
def surroundings(patient: str, margin: float) -> Iterator[tuple[Path, Path]]:
    """Files with the label map around the pancreas and with an image of the same grid that is body all over.

    With such an image every organ is measured on the same grid. The files go when the block ends.

    Args:
        patient: one of :data:`PATIENTS`.
        margin: around the pancreas, mm.
    """
    picture = nib.load(Path(os.environ["PANSITE_TEST_DATA"]) / "label_maps" / f"{patient}_multilabel_v2ids.nii.gz")
    whole = np.asarray(picture.dataobj)
    wide = [int(margin / edge) for edge in picture.header.get_zooms()]
    around = ndimage.find_objects((whole == PANCREAS).astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(around, wide, strict=True))
    cut = picture.slicer[box]
    with TemporaryDirectory() as folder:
        label, flat = Path(folder) / "label.nii.gz", Path(folder) / "flat.nii.gz"
        nib.save(cut, label)
        nib.save(nib.Nifti1Image(np.full(cut.shape, 40, np.int16), cut.affine), flat)
        yield label, flat
