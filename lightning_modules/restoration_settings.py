"""Settings of the restoration that are each well typed, but don't go together."""

from __future__ import annotations

from collections.abc import Iterator

from lightning_modules.config import ModelConfig
from lightning_modules.regions.choices.config import REGIONS

SSIM_WINDOW = 11
"""Voxels along an edge of the window that SSIM compares; a patch must have as many."""


def corrupts(config: ModelConfig) -> bool:
    """Whether a term asks for corrupted images: restoration, or a contrast of both views without it.

    A single pass corrupts for restoration alone: its corrupted samples have no clean counterpart to be contrasted with.
    """
    contrasts = config.contrastive.weight > 0 and config.contrastive.views == "both"
    return config.restoration.weight > 0 or (contrasts and config.restoration.passes == "two")


def misfits(config: ModelConfig, patch_size: tuple[int, int, int]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What can't work: the keys it hangs on, the one to mend first, and the sentence that follows that one.

    Args:
        config: the model.
        patch_size: D, H, W of a training patch in voxels.
    """
    settings = config.restoration
    key = "model.restoration"
    if settings.weight == 0:
        return
    if settings.passes == "one" and settings.region.needs_prediction:
        blind = [name for name in REGIONS.names() if not REGIONS.config_class(name).needs_prediction]
        yield (
            (f"{key}.region.name", f"{key}.passes"),
            f"{settings.region.name} needs a prediction before anything is corrupted, and {key}.passes=one has none; "
            f"choose one of {', '.join(blind)}, or set {key}.passes=two.",
        )
    if settings.passes == "one" and config.contrastive.weight > 0 and config.contrastive.views == "clean":
        yield (
            ("model.contrastive.views", f"{key}.passes"),
            f"clean needs a pass of clean images alone, which {key}.passes=one has not got; set "
            f"model.contrastive.views=both or {key}.passes=two.",
        )
    if settings.decoder == "shared" and settings.skip:
        yield (
            (f"{key}.skip", f"{key}.decoder"),
            f"is of the thin decoder, the shared one has its skips anyway; set {key}.skip=false or {key}.decoder=thin.",
        )
    if settings.decoder == "shared" and settings.detach_encoder and config.segmentation.weight == 0:
        yield (
            (f"{key}.decoder", f"{key}.detach_encoder", "model.segmentation.weight"),
            f"shared is trained by nothing where model.segmentation.weight=0 and {key}.detach_encoder=true; set "
            f"{key}.decoder=thin or {key}.detach_encoder=false.",
        )
    if settings.ssim > 0 and min(patch_size) < SSIM_WINDOW:
        yield (
            (f"{key}.ssim", "data.patch_size"),
            f"compares windows of {SSIM_WINDOW} voxels, for which data.patch_size={list(patch_size)} has no room; set "
            f"{key}.ssim=0 or take larger patches.",
        )
