"""A small site of small volumes, for tests that need files on disk and no anatomy."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from datamodules.layouts.manifest import ManifestSite

SPACING = (3.0, 3.0, 4.0)


def write_site(folder: Path, name: str, cases: int, shape: tuple[int, int, int] = (26, 24, 20)) -> ManifestSite:
    """A manifest site of ``cases`` soft-tissue blocks in air, each with a bar of "pancreas" of its own place.

    Sites of different names share no case.
    """
    folder = folder / name
    folder.mkdir(parents=True)
    rows = ["case,image,label"]
    for number in range(cases):
        generator = np.random.default_rng([*name.encode(), number])
        hu = np.full(shape, -1000, dtype=np.int16)
        inner = tuple(slice(2, n - 2) for n in shape)
        hu[inner] = generator.integers(20, 60, hu[inner].shape)
        label = np.zeros(shape, dtype=np.uint8)
        d, h, w = generator.integers(4, 8, 3)
        label[d : d + 12, h : h + 5, w : w + 4] = 1
        hu[label == 1] += 60
        for kind, array in (("image", hu), ("label", label)):
            nib.save(nib.Nifti1Image(array, np.diag([*SPACING, 1.0])), folder / f"{number}_{kind}.nii.gz")
        rows.append(f"c{number},{number}_image.nii.gz,{number}_label.nii.gz")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return ManifestSite(name=name, root=str(folder / "cases.csv"), check_ct=False)
