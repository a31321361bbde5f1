"""CTs that are made, not downloaded: a body in air with a bent organ in it, and their files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.randomness import numpy_generator
from lightning_modules.networks.config import DynUNetConfig
from tests.benchmarks.store_patch import SHAPE, volume

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

SMALL: Shape = (96, 96, 64)
"""For a quick run."""


def organ(shape: Shape, spacing: Spacing, seed: int = 0) -> NDArray[np.uint8]:
    """A tube of about a pancreas' size, 120 mm long and 25 mm thick, or what there is room for; uint8 D×H×W."""
    shift = numpy_generator(seed, "benchmark organ").uniform(-10, 10, 3)
    axes = [(np.arange(n) - n / 2) * edge + by for n, edge, by in zip(shape, spacing, shift, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    reach = min(60.0, shape[0] * spacing[0] / 4)
    return (((y - x**2 / 150) ** 2 + z**2 < 12.5**2) & (abs(x) < reach)).astype(np.uint8)


def ct(shape: Shape, spacing: Spacing, seed: int = 0) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU and the organ's label, both D×H×W; the organ is 60 HU brighter."""
    label = organ(shape, spacing, seed)
    return volume(seed, shape) + 60 * label.astype(np.int16), label


def write_ct(folder: Path, name: str, shape: Shape = SHAPE, spacing: Spacing = (0.8, 0.8, 1.5), seed: int = 0) -> None:
    """``<name>_0000.nii.gz`` and ``<name>.nii.gz`` in ``imagesTr`` and ``labelsTr``, as nnU-Net has them."""
    image, label = ct(shape, spacing, seed)
    for kind, file, voxels in (("imagesTr", f"{name}_0000", image), ("labelsTr", name, label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nifti = nib.Nifti1Image(voxels, np.diag([*spacing, 1.0]))
        nifti.header.set_xyzt_units("mm")
        nib.save(nifti, folder / kind / f"{file}.nii.gz")


def write_manifest(folder: Path, names: list[str]) -> Path:
    """The CSV that tells Pansite of the same files."""
    rows = [f"{name},imagesTr/{name}_0000.nii.gz,labelsTr/{name}.nii.gz" for name in names]
    path = folder / "cases.csv"
    path.write_text("case,image,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def write_experiment(folder: Path, names: list[str], spacing: Spacing, quick: bool) -> Path:
    """A supervised experiment on these cases, the last of which validates: the default network, or a small one."""
    manifest = write_manifest(folder, names)
    split = folder / "split.json"
    split.write_text(json.dumps({"train": names[:-1], "validation": names[-1:]}), encoding="utf-8")
    path = folder / "experiment.yaml"
    patch, filters = (48, [4, 8, 16]) if quick else (96, list(DynUNetConfig().filters))
    path.write_text(
        f"""extends: bases/supervised.yaml
name: made
data:
  source: {{name: made, layout: manifest, root: {manifest}}}
  split: {{file: {split}}}
  spacing: {list(spacing)}
  patch_size: {[patch] * 3}
  batch_size: 2
  workers: 2
  store: {folder}/store
  augmentation: {{name: standard}}
model: {{network: {{name: dynunet, filters: {filters}}}}}
trainer: {{accelerator: cpu, max_steps: 100000, precision: bf16-mixed, channels_last: true, progress_bar: false}}
logging: {{wandb: disabled}}
run: {{root: {folder}/runs}}
""",
        encoding="utf-8",
    )
    return path
