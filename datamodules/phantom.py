"""Phantom sites: procedural abdominal CTs in HU with NIfTI geometry, so that all runs with nothing to download.

A case is a patient (:mod:`datamodules.anatomy`) and a scan (:mod:`datamodules.acquisition`). Patients vary in
build, in the size and place of every organ and in the lie of the pancreas, each drawn from a random stream of
its own, keyed by the site's seed and the case's number. Sites differ by the factors of
:data:`datamodules.phantom_settings.FACTORS`; another value of a factor leaves all else of a case as it is.

All arithmetic that decides on a voxel is in float64, so that the int16 voxels are the same on every machine: the
committed hash of the test sites (`phantom_hashes.json`) says so.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.acquisition import plan_scan, reconstruct, slices_of
from datamodules.anatomy.grid import Array
from datamodules.anatomy.pancreas import draw_pancreas
from datamodules.anatomy.patient import draw_patient
from datamodules.anatomy.scene import paint_patient
from datamodules.atomic import atomic_folder
from datamodules.errors import UsageError
from datamodules.phantom_settings import FACTORS, SiteSettings
from datamodules.randomness import numpy_generator

PANCREAS, LESION = 1, 2
"""Label ids: a lesion has one of its own, as in MSD Pancreas; its duct belongs to the pancreas."""


@dataclass(frozen=True)
class PhantomCase:
    """A phantom scan in its site's orientation.

    Attributes:
        image: HU, int16, in the array order of the site's orientation.
        label: uint8 on the same grid: 0, `PANCREAS` or `LESION`.
        affine: voxel to world in RAS mm, 4×4.
        factors: the value of each factor in this case.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: Array
    factors: dict[str, float]

    def digest(self) -> str:
        """SHA-256 over voxels, label and affine (to 1 nm), equal on every machine."""
        total = hashlib.sha256(repr(self.image.shape).encode())
        total.update(np.ascontiguousarray(self.image, dtype="<i2").tobytes())
        total.update(np.ascontiguousarray(self.label).tobytes())
        total.update(np.rint(self.affine * 1e6).astype("<i8").tobytes())
        return total.hexdigest()


def generate(settings: SiteSettings, index: int) -> PhantomCase:
    """One case of a site.

    Args:
        settings: the site.
        index: the case's number, from 0; the same whatever the number of cases.
    """
    factors = draw_factors(settings, index)
    patient = draw_patient(settings.seed, index, factors["habitus"], factors["lesions"])
    axis = draw_pancreas(patient).axis[:, 2]
    organ = float(axis.min()) - 22.0, float(axis.max()) + 22.0
    protocol = plan_scan(patient, organ, factors["field_of_view"], factors["slice_thickness"])
    hu, pancreas, lesion = (
        slices_of(layers, protocol) for layers in paint_patient(patient, protocol.working_grid(), factors["phase"])
    )
    image = reconstruct(hu, protocol, factors["noise"], patient.stream("noise"))
    label = _label(pancreas, lesion)
    affine = protocol.affine()
    turn = nib.orientations.axcodes2ornt(settings.orientation)
    affine = affine @ nib.orientations.inv_ornt_aff(turn, image.shape)
    return PhantomCase(
        image=nib.orientations.apply_orientation(image, turn),
        label=nib.orientations.apply_orientation(label, turn),
        affine=affine,
        factors=factors,
    )


def draw_factors(settings: SiteSettings, index: int) -> dict[str, float]:
    """The value of every factor in a case: uniform in the site's range."""
    values = {}
    for factor in FACTORS:
        low, high = settings.factors[factor]
        values[factor] = low + (high - low) * float(numpy_generator(settings.seed, index, "factor", factor).random())
    return values


def write_case(settings: SiteSettings, index: int, folder: Path) -> None:
    """Write ``image.nii.gz`` and ``label.nii.gz`` of a case into ``folder``, which appears whole.

    Raises:
        UsageError: the disk is full or can't be written to.
    """
    case = generate(settings, index)
    try:
        with atomic_folder(folder) as part:
            for name, voxels in (("image", case.image), ("label", case.label)):
                nifti = nib.Nifti1Image(voxels, case.affine)
                nifti.header.set_xyzt_units("mm")
                nib.save(nifti, part / f"{name}.nii.gz")  # nibabel compresses at level 1
    except OSError as error:
        raise UsageError(
            f"the phantom case {settings.case_id(index)!r} can't be written to {folder.parent} "
            f"({error.strerror or error}): set the site's 'root' to a folder with space"
        ) from error


def _label(pancreas: Array, lesion: Array) -> NDArray[np.uint8]:
    """What an annotator draws: voxels that are mostly pancreas, in one piece."""
    mask = pancreas >= 0.5
    parts, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        mask = parts == sizes.argmax()
    label = mask.astype(np.uint8) * PANCREAS
    label[mask & (lesion >= 0.5)] = LESION
    return label
