"""Segmenting images with the weights of runs: NIfTI files and DICOM series in, masks on their own grids out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from datamodules import progress
from datamodules.errors import CaseError, UsageError, one_line
from experiments import launch
from experiments.console import say, say_here
from experiments.ensemble import UNCERTAINTIES, Member, Prediction, load_members, predict_case
from experiments.masks import Target, find_targets, note_of
from experiments.signals import SIGNALS
from lightning_modules.inference import THRESHOLD

log = logging.getLogger(__name__)

CHECK_CT = "data.source.check_ct"
TAKEN = ("evaluation.", "trainer.accelerator", CHECK_CT)
"""What can be overridden: the rest decides what was trained."""


def predict(
    runs: Sequence[Path],
    images: Sequence[str],
    output: Path,
    overrides: Sequence[str] = (),
    uncertainty: bool = False,
) -> int:
    """Write ``<output>/<name>.nii.gz`` for each image; name those that can't be used and finish the others.

    What is there already, of the same weights, settings and image, is not computed again.

    Args:
        runs: the runs; of several the mean of their probabilities is taken on each image's own grid.
        images: NIfTI files, folders with one DICOM series each, and CSV files that name cases as manifests do.
        output: the folder of the masks.
        overrides: ``evaluation.…``, ``trainer.accelerator=…``, and ``check_ct=false`` for a CT that was cropped or
            clipped so that it does not look like one.
        uncertainty: also write ``<name>_entropy.nii.gz`` and, of several runs, ``<name>_mutual_information.nii.gz``.

    Returns:
        0, or 2 where an image was refused.

    Raises:
        UsageError: no such run or checkpoint, a run that is only pretrained, one that is given twice, an override that
            can't be taken, or two images with one mask's name.
    """
    taken = [f"{CHECK_CT}=true", *_taken(overrides)]
    maps = UNCERTAINTIES[: min(len(runs), 2)] if uncertainty else ()
    targets = find_targets(images, output, maps)
    members, config = load_members(runs, taken)
    settings = [[member.key() for member in members], THRESHOLD]
    if len(members) > 1:
        say(f"the mean of {len(members)} runs: {', '.join(str(member.run) for member in members)}")
    rank, ranks = launch.position()
    count: Counter[str] = Counter()
    with SIGNALS.at_once(), progress.bar(launch.first(), transient=True) as bar:
        # This process' share, where srun or torchrun has started several.
        for target in bar.track(targets[rank::ranks], description="predicting"):
            note = note_of(target.case, settings)
            try:
                if target.is_done(note):
                    count["kept"] += 1
                    continue
                prediction = _predicted(members, target, config.data.source.check_ct, uncertainty)
            except CaseError as error:
                count["refused"] += 1
                say_here(f"refused: {error}")
            else:
                target.write(prediction, note)
                count["done"] += 1
                told = "".join(f"; {each}" for each in prediction.notes)
                say_here(f"{target.label}: {prediction.volume_ml:.1f} ml{told}")
    return _conclude(count)


def _predicted(members: Sequence[Member], target: Target, check_ct: bool, uncertainty: bool) -> Prediction:
    """The prediction of one image.

    Raises:
        CaseError: the image can't be used, whatever it provoked.
    """
    try:
        return predict_case(members, target.case, check_ct, uncertainty)
    except (CaseError, UsageError):
        raise
    except Exception as error:  # what else a file provokes is that file's fault and must not stop the others
        log.debug("predicting %s failed", target.case, exc_info=True)
        what = one_line(f"{type(error).__name__}: {error}")
        raise CaseError(f"{target.case.image}: it could not be predicted ({what})") from error


def _conclude(count: Counter[str]) -> int:
    if count["kept"]:
        say_here(f"{count['kept']} of {count.total()} were predicted already, with these weights and settings")
    if count["refused"]:
        rest = "the others are done" if count["refused"] < count.total() else "nothing was segmented"
        say_here(f"{count['refused']} of {count.total()} images refused; {rest}.")
    return 2 if count["refused"] else 0


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
