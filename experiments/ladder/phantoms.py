"""Phantoms of no site: patients of a seed of their own, every factor at 0 but the one that is climbed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from datamodules.errors import UsageError
from datamodules.layouts import SiteConfig
from datamodules.layouts.phantom import PhantomSite
from datamodules.phantom_settings import FACTORS, SiteSettings, builtin_site
from experiments.ladder.plan import SEED, Factor, Rung
from experiments.ladder.scans import Scan
from experiments.pages.words import count

_ENDS: Mapping[str, tuple[str, str]] = {
    "phase": ("portal venous phase", "no contrast medium, by way of the pancreatic phase"),
    "noise": ("standard dose, soft kernel", "low dose, sharp kernel"),
    "slice_thickness": ("slices of 2 mm", "slices of 7 mm"),
    "habitus": ("slender", "obese or emaciated, the pancreas fatty"),
    "lesions": ("none", "a lesion with a dilated duct"),
    "field_of_view": ("fitted to the patient", "cut or too wide, off centre, cropped or too long"),
}


class Phantoms:
    """Phantoms as a ladder's scans; each is made when it is asked for, nothing is kept on disk.

    Args:
        count: how many patients.
    """

    name = "phantoms"
    factors = tuple(Factor(name, *_ENDS[name]) for name in FACTORS)
    remarks = ("These patients are of no site: no held-out case was looked at.",)

    def __init__(self, cases: int) -> None:
        self.title = f"{count(cases, 'phantom')} of no site"
        self.cases = [f"phantom_{number:03d}" for number in range(cases)]

    def digest(self, case: str, rung: Rung) -> str:
        """A hash of the generator, its settings and the patient's number."""
        return hashlib.sha256(f"{self._settings(rung).key()} {case}".encode()).hexdigest()

    def scan(self, case: str, rung: Rung) -> Scan:
        """Scan a patient with a factor at its level and all others at 0."""
        import torch
        import torchio as tio

        from datamodules.phantom import generate

        made = generate(self._settings(rung), self.cases.index(case))
        voxels = torch.from_numpy(np.ascontiguousarray(made.image, dtype=np.float32))[None]
        label = np.ascontiguousarray(made.label > 0, dtype=np.uint8)
        return Scan(tio.ScalarImage(tensor=voxels, affine=made.affine), label, made.affine)

    def _settings(self, rung: Rung) -> SiteSettings:
        still = dict.fromkeys(FACTORS, 0.0)
        return builtin_site("source").altered(
            len(self.cases), SEED, still | ({rung.factor: rung.level} if rung.factor else {})
        )


def refuse_own_patients(run: str, source: SiteConfig) -> None:
    """Refuse a run whose source has the ladder's patients: it knows them.

    Raises:
        UsageError: it has.
    """
    if isinstance(source, PhantomSite) and source.settings().seed == SEED:
        raise UsageError(
            f"{run}: was trained on the ladder's own patients (data.source.seed is {SEED}); train it on others."
        )
