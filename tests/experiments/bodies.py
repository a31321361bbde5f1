"""Small bodies on grids of every kind, and runs that nobody trained: their masks are no organ, and no mask is alike."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.config import ModelConfig
from lightning_modules.dual_ssl import DualSSLModule, Preprocessing
from lightning_modules.networks.config import DynUNetConfig

Spacing = tuple[float, float, float]


def write_run(folder: Path, seed: int = 3, spacing: Spacing = (4.0, 4.0, 4.0), edge: int = 32) -> DualSSLModule:
    """A run's folder with a tiny network whose probabilities lie about 0.5: a hard case for equal masks.

    Args:
        folder: of the run.
        seed: of its weights.
        spacing: that it takes images at.
        edge: of its patches.

    Returns:
        What its ``best.ckpt`` holds.
    """
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "name: tiny\n"
        "data:\n  source: {name: here, layout: manifest, root: cases.csv}\n"
        f"  patch_size: [{edge}, {edge}, {edge}]\n"
        "model: {network: {name: dynunet, filters: [4, 8, 8]}}\n"
        "trainer: {accelerator: cpu}\nevaluation: {overlap: 0.1}\n"
    )
    model = ModelConfig(network=DynUNetConfig(filters=(4, 8, 8)))
    model.contrastive.weight = model.restoration.weight = 0.0
    module = DualSSLModule(model, Preprocessing(spacing, (-100.0, 240.0), (edge, edge, edge)), seed=seed).eval()
    with torch.no_grad():
        noise = torch.rand(1, 1, edge, edge, edge, generator=torch.Generator().manual_seed(0))
        bias = [value for name, value in module.network.named_parameters() if name.startswith("decoder.output")][-1]
        bias -= module(noise).median()
    save_checkpoint(module, folder / "checkpoints" / "best.ckpt", step=5)
    return module


def save_checkpoint(module: DualSSLModule, path: Path, step: int) -> None:
    """Write a checkpoint as Lightning does."""
    torch.save(
        {
            "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams),
            "global_step": step,
            "pytorch-lightning_version": "2.6.6",
        },
        path,
    )


def write_body(path: Path, grid: str = "ras", shape: tuple[int, int, int] = (44, 40, 40)) -> Path:
    """A body as a NIfTI file on one of :data:`GRIDS`."""
    nib.save(nib.Nifti1Image(body(shape, GRIDS[grid]), GRIDS[grid]), path)
    return path


def body(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.int16]:
    """A CT in HU: air, a wall of fat around soft tissue, a spine; an ellipsoid in world coordinates."""
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3] - centre
    # Off the middle, so that a flip or a shift can't be missed.
    radius = np.linalg.norm((world - (6, -4, 3)) / (45, 35, 50), axis=-1)
    hu = np.where(radius < 1, -100, -1000)
    hu[radius < 0.8] = 40
    hu[np.linalg.norm(world[..., :2] - (0, -20), axis=-1) < 6] = 400
    noise = np.random.default_rng(0).normal(0, 8, shape)
    return np.asarray(hu + noise).round().astype(np.int16)


def rotated(zooms: tuple[float, float, float], degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ np.diag(zooms)
    affine[:3, 3] = (11, -7, 300)
    return affine


GRIDS = {
    "ras": rotated((2.5, 2.5, 3.0), 0),
    "lps": rotated((-2.5, -2.5, 3.0), 0),
    "oblique": rotated((2.5, -2.2, 4.0), 12),
    "permuted": rotated((2.5, 2.5, 3.0), 7)[:, [2, 0, 1, 3]],
}
