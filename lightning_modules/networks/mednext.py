"""MONAI's MedNeXt, its stages run one by one so that every feature map is at hand."""

from __future__ import annotations

from typing import Any, NamedTuple

from monai.networks.nets import MedNeXt
from torch import nn

from lightning_modules.keyed_initialisation import keyed_initialisation
from lightning_modules.networks.backbone import Backbone
from lightning_modules.networks.config import MedNeXtConfig, refuse_faults
from lightning_modules.networks.stages import DEEP_HEADS, AddingStage, DecoderStages, EncoderStages


class Size(NamedTuple):
    """Expansion ratios and numbers of blocks at strides 1, 2, 4, 8 and at the bottleneck; the way up mirrors them."""

    expansion: tuple[int, int, int, int]
    bottleneck_expansion: int
    blocks: tuple[int, int, int, int]
    bottleneck_blocks: int


SIZES = {
    "S": Size((2, 2, 2, 2), 2, (2, 2, 2, 2), 2),
    "B": Size((2, 3, 4, 4), 4, (2, 2, 2, 2), 2),
    "M": Size((2, 3, 4, 4), 4, (3, 4, 4, 4), 4),
    "L": Size((3, 4, 8, 8), 8, (3, 4, 8, 8), 8),
}
"""The paper's sizes (Roy et al., 2023, table 1)."""


def build_mednext(config: MedNeXtConfig, seed: int) -> Backbone:
    """A MedNeXt of one input and one output channel, initialised by MONAI's rule.

    Its norm is a GroupNorm of one channel a group, which is an InstanceNorm; up-sampling is by transposed convolution.

    Args:
        config: its settings.
        seed: of the run; the weights depend on it and the settings alone.

    Raises:
        UsageError: an even kernel.
    """
    refuse_faults(config)
    with keyed_initialisation(seed, "backbone"):
        network = monai_mednext(config)
    return mednext_backbone(network, config)


def mednext_backbone(network: MedNeXt, config: MedNeXtConfig) -> Backbone:
    """The backbone that is made of a network's own layers."""
    down = [network.stem, *network.down_blocks]
    blocks = [*network.enc_stages, network.bottleneck]
    ups = zip(network.up_blocks, network.dec_stages, strict=True)
    # MONAI's heads stand the coarsest first.
    deep = list(network.out_blocks)[: -DEEP_HEADS - 1 : -1] if network.do_ds else []
    channels = {stride: stride * config.init_filters for stride in config.strides}
    return Backbone(
        EncoderStages([nn.Sequential(*stage) for stage in zip(down, blocks, strict=True)]),
        DecoderStages([AddingStage(up, stage) for up, stage in ups], network.out_0, deep),
        encoder_channels=channels,
        decoder_channels={stride: width for stride, width in channels.items() if stride < max(channels)},
    )


def monai_mednext(config: MedNeXtConfig) -> MedNeXt:
    """MONAI's network as the paper's sizes set it, with residual connections."""
    return MedNeXt(**mednext_arguments(config), deep_supervision=config.deep_supervision)


def mednext_arguments(config: MedNeXtConfig) -> dict[str, Any]:
    """What MONAI's class is called with, as plain containers."""
    size = SIZES[config.size]
    return {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "init_filters": config.init_filters,
        "kernel_size": config.kernel_size,
        "encoder_expansion_ratio": list(size.expansion),
        "decoder_expansion_ratio": list(size.expansion[::-1]),
        "bottleneck_expansion_ratio": size.bottleneck_expansion,
        "blocks_down": list(size.blocks),
        "blocks_bottleneck": size.bottleneck_blocks,
        "blocks_up": list(size.blocks[::-1]),
        "use_residual_connection": True,
        "norm_type": "group",
    }
