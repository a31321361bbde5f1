"""Segmenting images with a run's weights: NIfTI files and DICOM series in, masks on their own grids out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from callbacks.checkpoint_io import chosen
from datamodules.errors import CaseError, UsageError
from datamodules.layouts.site import Case, SiteConfig
from datamodules.native import to_native, write_native
from datamodules.preprocessing import preprocess
from datamodules.reading import RawCase, read_case
from datamodules.store import CaseRecord
from datamodules.window import apply_window
from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.console import say
from experiments.run_folder import RunFolder
from lightning_modules.dual_ssl import DualSSLModule, InferenceSettings, load_module

THRESHOLD = 0.5
CHECK_CT = "data.source.check_ct"
TAKEN = ("evaluation.", "trainer.accelerator", CHECK_CT)
"""What can be overridden: the rest decides what was trained."""


@dataclass(frozen=True)
class Mask:
    """A prediction on the image's own grid.

    Attributes:
        voxels: uint8 0 or 1, in the order of the image's voxels.
        record: where they lie.
        notes: what the user should know of it.
    """

    voxels: NDArray[np.uint8]
    record: CaseRecord
    notes: tuple[str, ...] = ()

    @property
    def volume_ml(self) -> float:
        """Volume of the predicted pancreas."""
        voxel = abs(np.linalg.det(np.array(self.record.native_affine)[:3, :3]))
        return float(self.voxels.sum(dtype=np.int64) * voxel / 1000)


def predict(run_folder: Path, images: Sequence[str], output: Path, overrides: Sequence[str] = ()) -> int:
    """Write ``<output>/<name>.nii.gz`` for each image; name those that can't be used and finish the others.

    Args:
        run_folder: the run.
        images: NIfTI files, and folders with one DICOM series each.
        output: the folder of the masks.
        overrides: ``evaluation.…``, ``trainer.accelerator=…``, and ``check_ct=false`` for a CT that was cropped or
            clipped so that it does not look like one.

    Returns:
        0, or 2 where an image was refused.

    Raises:
        UsageError: no such run or checkpoint, an override that can't be taken, or two images with one mask's name.
    """
    run = RunFolder.existing(run_folder)
    config = load_experiment(run.config, [f"{CHECK_CT}=true", *_taken(overrides)]).config
    targets = _targets(images, output)
    module = load_module(chosen(run.checkpoints, config.evaluation.checkpoint)).to(_device(config))
    refused = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=len(targets))
        for image, target in targets.items():
            try:
                mask = predict_image(module, image, config)
            except CaseError as error:
                refused += 1
                say(f"refused: {error}")
            else:
                write_native(target, mask.voxels, mask.record)
                say(f"{target}: {mask.volume_ml:.1f} ml" + "".join(f"; {note}" for note in mask.notes))
            bar.advance(task)
    if refused:
        say(f"{refused} of {len(targets)} images refused; the others are done.")
    return 2 if refused else 0


def predict_image(module: DualSSLModule, image: Path, config: ExperimentConfig) -> Mask:
    """Predict one image as the run's test cases are predicted.

    Args:
        module: the run's weights, which know their preprocessing.
        image: a NIfTI file, or a folder with a DICOM series.
        config: of the run, for ``evaluation`` and ``data.source.check_ct``.

    Raises:
        CaseError: the image can't be used; the sentence names it.
    """
    given = module.preprocessing
    try:
        raw = read_case(
            Case(image.name, image.name, image, None),
            SiteConfig(layout="prediction", check_ct=config.data.source.check_ct),
            labelled=False,
        )
        grid = preprocess(raw.image, None, given.spacing)
    except CaseError as error:
        raise CaseError(str(error) if str(image) in str(error) else f"{image}: {error}") from error
    except MemoryError as error:
        raise CaseError(f"{image}: there is not enough memory for it") from error
    record = _record(image, raw, grid.image.shape, given.spacing, grid.affine)
    volume = apply_window(torch.from_numpy(grid.image), given.window)[None, None].to(module.device)
    settings = InferenceSettings(overlap=config.evaluation.overlap, flips=config.evaluation.flips)
    probability = module.predict_probability(volume, settings)[0, 0].cpu().numpy()
    voxels = (to_native(probability, record) > THRESHOLD).astype(np.uint8)
    notes = list(raw.warnings)
    if any(n < patch for n, patch in zip(record.shape, given.patch_size, strict=True)):
        notes.append(
            f"its {_times(record.shape)} voxels at the run's spacing were padded to {_times(given.patch_size)}"
        )
    return Mask(voxels, record, tuple(notes))


def _taken(overrides: Sequence[str]) -> list[str]:
    """Overrides under their full names.

    Raises:
        UsageError: one that prediction does not take.
    """
    full = [f"{CHECK_CT}{word[len('check_ct') :]}" if word.startswith("check_ct=") else word for word in overrides]
    for word in full:
        if not word.startswith(TAKEN):
            raise UsageError(
                f"override {word!r}: prediction takes evaluation.…, trainer.accelerator and check_ct; "
                "the rest is what the run was trained with."
            )
    return full


def _targets(images: Sequence[str], output: Path) -> dict[Path, Path]:
    """The mask's path of each image, images given twice taken once.

    Raises:
        UsageError: two images would have the same mask, or a mask would replace an image.
    """
    targets: dict[Path, Path] = {}
    named: dict[str, Path] = {}
    # Normalised, not resolved: a link's mask is called by the link.
    for image in dict.fromkeys(Path(os.path.abspath(Path(name).expanduser())) for name in images):  # noqa: PTH100
        name = image.name.removesuffix(".gz").removesuffix(".nii") or "image"
        target = output / f"{name}.nii.gz"
        if name in named:
            raise UsageError(
                f"{image}: its mask would be called {target.name}, as that of {named[name]}; "
                "predict them into two folders."
            )
        if target.resolve() in {image.resolve()} | {other.resolve() for other in targets}:
            raise UsageError(f"{image}: its mask would replace it; choose another --output.")
        named[name], targets[image] = image, target
    return targets


def _device(config: ExperimentConfig) -> torch.device:
    wanted, there = config.trainer.accelerator, torch.cuda.is_available()
    if wanted == "gpu" and not there:
        raise UsageError("trainer.accelerator: gpu is asked for, but there is none; add trainer.accelerator=cpu.")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def _record(
    image: Path,
    raw: RawCase,
    shape: tuple[int, ...],
    spacing: tuple[float, float, float],
    affine: NDArray[np.float64],
) -> CaseRecord:
    d, h, w = shape
    return CaseRecord(
        site="prediction",
        case=image.name,
        patient=image.name,
        shape=(d, h, w),
        spacing=spacing,
        affine=affine.tolist(),
        native_shape=raw.image.spatial_shape,
        native_affine=np.asarray(raw.image.affine).tolist(),
        image_path=str(image),
        label_path=None,
        labels=[],
        digest="",
        fingerprint="",
        pancreas_volume_ml=0.0,
        warnings=raw.warnings,
    )


def _times(numbers: Sequence[int]) -> str:
    return "×".join(map(str, numbers))
