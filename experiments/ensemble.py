"""Runs that predict together: the mean of their probabilities on the image's own grid, and how uncertain it is.

Each run sees an image as it was trained to: by its own spacing, window and patch. So runs of other seeds, folds,
sources, networks or spacings go together; what they have in common is the grid that their probabilities meet on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from callbacks.checkpoint_io import chosen
from callbacks.rows import describe_checkpoint
from datamodules.errors import CaseError, UsageError
from datamodules.layouts.site import Case, SiteConfig
from datamodules.native import to_native
from datamodules.preprocessing import Canonical, preprocess
from datamodules.reading import RawCase, read_case
from datamodules.store import CaseRecord, Spacing
from datamodules.window import apply_window
from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.devices import device_of
from experiments.evaluation import inference_settings, refuse_pretrained
from experiments.run_folder import RunFolder
from lightning_modules.dual_ssl import DualSSLModule, InferenceSettings
from lightning_modules.inference import THRESHOLD, mask_of
from lightning_modules.loading import load_module
from lightning_modules.metrics.uncertainty import binary_entropy

UNCERTAINTIES = ("entropy", "mutual_information")
"""The second of several runs alone."""
STEPS = 1000
"""Of an uncertainty to the bit, as it is written: more digits are noise that no file could be packed well with."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Member:
    """A run that predicts.

    Attributes:
        run: its folder.
        checkpoint: the file of its weights.
        module: its weights, which know their preprocessing.
        settings: of the sliding window.
        sha256: of the checkpoint.
    """

    run: Path
    checkpoint: Path
    module: DualSSLModule
    settings: InferenceSettings
    sha256: str

    def key(self) -> dict[str, Any]:
        """What decides its probabilities, as plain containers."""
        return {"checkpoint": self.sha256, **asdict(self.settings)}

    def probability(self, grid: Canonical, record: CaseRecord) -> Map:
        """Probability of pancreas on the image's own grid."""
        module = self.module
        volume = apply_window(torch.from_numpy(grid.image), module.preprocessing.window)[None, None]
        found = module.predict_probability(volume.to(module.device), self.settings)
        return to_native(found[0, 0].cpu().numpy(), record)


@dataclass(frozen=True)
class Prediction:
    """A prediction on the image's own grid.

    Attributes:
        label: uint8 0 or 1, in the order of the image's voxels.
        record: where they lie.
        uncertainty: by name float32 in bit, on the same grid: ``entropy`` of the mean probability, in [0, 1]; of
            several runs also ``mutual_information``, the part of it that is their disagreement. Empty where not asked
            for.
        notes: what the user should know of it.
    """

    label: NDArray[np.uint8]
    record: CaseRecord
    uncertainty: dict[str, Map]
    notes: tuple[str, ...] = ()

    @property
    def volume_ml(self) -> float:
        """Volume of the predicted pancreas."""
        return _volume_ml(self.label, self.record)


def load_members(runs: Sequence[Path], overrides: Sequence[str]) -> tuple[list[Member], ExperimentConfig]:
    """The runs of an ensemble, in an order that does not depend on that of the command line.

    Args:
        runs: their folders.
        overrides: that all of them get.

    Returns:
        The members, and the first run's configuration.

    Raises:
        UsageError: no such run or checkpoint, a run that is only pretrained, or two with the very same weights.
    """
    members: dict[str, Member] = {}
    configs: list[ExperimentConfig] = []
    for folder in runs:
        run = RunFolder.existing(folder)
        config = load_experiment(run.config, list(overrides)).config
        refuse_pretrained(config, run)
        checkpoint = chosen(run.checkpoints, config.evaluation.checkpoint)
        sha256 = describe_checkpoint(checkpoint)["sha256"]
        if sha256 in members:
            raise UsageError(f"{folder}: its weights are those of {members[sha256].run}; give each run once.")
        settings = inference_settings(config.evaluation)
        module = load_module(checkpoint).to(device_of(config.trainer))
        members[sha256] = Member(folder, checkpoint, module, settings, sha256)
        configs.append(config)
    return [members[sha256] for sha256 in sorted(members)], configs[0]


def predict_case(members: Sequence[Member], case: Case, check_ct: bool = True, uncertainty: bool = False) -> Prediction:
    """Predict one image as a run's test cases are predicted.

    Args:
        members: the runs whose mean is taken; the first one's settings say what is kept of its mask.
        case: the image.
        check_ct: refuse what does not look like a CT.
        uncertainty: also say how uncertain each voxel is.

    Raises:
        CaseError: the image can't be used; the sentence names it.
    """
    try:
        seen = _seen(members, case, check_ct)
        mean, parts = _mean(members, seen, uncertainty and len(members) > 1)
    except CaseError as error:
        raise CaseError(str(error) if str(case.image) in str(error) else f"{case.image}: {error}") from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise CaseError(f"{case.image}: there is not enough memory for it") from error
    record = next(iter(seen.values())).record
    found = mask_of(mean, members[0].settings.smallest_piece)
    notes = list(record.warnings) + _padded(members, seen)
    if (beside := (mean > THRESHOLD) & ~found).any():
        notes.append(f"{_volume_ml(beside, record):.1f} ml in smaller pieces left out")
    maps = {}
    if uncertainty:
        whole = _entropy(mean)
        maps["entropy"] = _rounded(whole)
        if parts is not None:
            maps["mutual_information"] = _rounded(np.maximum(whole - parts, 0))
    return Prediction(found.astype(np.uint8), record, maps, tuple(notes))


class _Seen(NamedTuple):
    grid: Canonical
    record: CaseRecord


def _seen(members: Sequence[Member], case: Case, check_ct: bool) -> dict[Spacing, _Seen]:
    """The image as the members see it; its own voxels, of which there are most, are then given up."""
    raw = read_case(case, SiteConfig(layout="prediction", check_ct=check_ct), labelled=False)
    spacings = dict.fromkeys(member.module.preprocessing.spacing for member in members)
    grids = {spacing: preprocess(raw.image, None, spacing) for spacing in spacings}
    return {spacing: _Seen(grid, _record(case, raw, grid)) for spacing, grid in grids.items()}


def _mean(members: Sequence[Member], seen: dict[Spacing, _Seen], parts: bool) -> tuple[Map, Map | None]:
    """The mean probability and, where it is wanted, the mean of the members' entropies."""
    total = entropies = None
    for member in members:
        probability = member.probability(*seen[member.module.preprocessing.spacing])
        if parts:
            own = _entropy(probability)
            entropies = own if entropies is None else np.add(entropies, own, out=entropies)
        total = probability if total is None else np.add(total, probability, out=total)
    assert total is not None
    total /= np.float32(len(members))
    if entropies is not None:
        entropies /= np.float32(len(members))
    return total, entropies


def _entropy(probability: Map) -> Map:
    return binary_entropy(probability.clip(0, 1))  # a mean may be above 1 by a rounding


def _rounded(bits: Map) -> Map:
    return np.round(bits * STEPS) / np.float32(STEPS)


def _padded(members: Sequence[Member], seen: dict[Spacing, _Seen]) -> list[str]:
    """That an image is smaller than what a network looks at, where it is."""
    for member in members:
        given = member.module.preprocessing
        shape = seen[given.spacing].grid.image.shape
        if any(n < patch for n, patch in zip(shape, given.patch_size, strict=True)):
            padded = [max(n, patch) for n, patch in zip(shape, given.patch_size, strict=True)]
            return [f"its {_times(shape)} voxels at the run's spacing were padded to {_times(padded)}"]
    return []


def _record(case: Case, raw: RawCase, grid: Canonical) -> CaseRecord:
    affine = np.asarray(raw.image.affine)
    return grid.unstored(
        "prediction", raw.image.spatial_shape, affine, case.case, case.patient, str(case.image), raw.warnings
    )


def _volume_ml(voxels: NDArray[Any], record: CaseRecord) -> float:
    voxel = abs(np.linalg.det(np.array(record.native_affine)[:3, :3]))
    return float(voxels.sum(dtype=np.int64) * voxel / 1000)


def _times(numbers: Sequence[int]) -> str:
    return "×".join(map(str, numbers))
