"""Self-supervised pretraining: ``model.segmentation.weight: 0``, contrast and restoration alone, on the source.

The network then has no prediction: its logits are 0, every voxel is as uncertain as can be, and what no term can
reach of it stays frozen as initialised. A fine-tuning run (``model.init``) takes all of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_modules.config import ModelConfig
from lightning_modules.regions.choices.config import REGIONS
from lightning_modules.restoration_settings import corrupts

CANT_SEGMENT = (
    "is pretrained without segmentation (model.segmentation.weight: 0), so there is nothing to evaluate or to predict "
    "with yet; fine-tune it in another run, by model.init"
)


def pretrains(config: ModelConfig) -> bool:
    """Whether segmentation is left out, so that the network can't segment."""
    return config.segmentation.weight == 0


def misfits(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """What can't work without segmentation: the key, and the sentence that follows it."""
    if not pretrains(config):
        return
    contrast, restoration = config.contrastive, config.restoration
    if contrast.weight == 0 and restoration.weight == 0:
        yield (
            "model.segmentation.weight",
            "is 0, as are those of model.contrastive and model.restoration, so nothing would be trained; "
            "give one of the three a weight.",
        )
        return
    if corrupts(config) and restoration.region.needs_prediction:
        blind = [name for name in REGIONS.names() if not REGIONS.config_class(name).needs_prediction]
        yield (
            "model.restoration.region.name",
            f"{restoration.region.name} asks for a prediction, and without segmentation (model.segmentation.weight: "
            f"0) there is none; choose one of {', '.join(blind)}.",
        )
    if contrast.weight > 0 and contrast.sampling == "uncertain":
        yield (
            "model.contrastive.sampling",
            "uncertain asks for a prediction, and without segmentation (model.segmentation.weight: 0) there is "
            "none; choose uniform or mixed, which is then uniform too.",
        )
    if contrast.weight == 0 and restoration.detach_encoder:
        yield (
            "model.restoration.detach_encoder",
            "keeps restoration from the encoder, and without segmentation and contrast nothing else trains it; "
            "set it to false.",
        )
