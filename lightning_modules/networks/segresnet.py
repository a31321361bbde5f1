"""MONAI's SegResNet, its stages run one by one so that every feature map is at hand."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import SegResNet
from torch import nn

from lightning_modules.keyed_initialisation import keyed_initialisation
from lightning_modules.networks.backbone import Backbone
from lightning_modules.networks.config import SegResNetConfig, refuse_faults
from lightning_modules.networks.stages import AddingStage, DecoderStages, EncoderStages


def build_segresnet(config: SegResNetConfig, seed: int) -> Backbone:
    """A SegResNet of one input and one output channel, initialised by MONAI's rule.

    Its blocks normalise what comes in, not what goes out: features are what the next block would normalise.

    Args:
        config: its settings.
        seed: of the run; the weights depend on it and the settings alone.

    Raises:
        UsageError: the ways down and up don't fit together.
    """
    refuse_faults(config)
    with keyed_initialisation(seed, "backbone"):
        network = monai_segresnet(config)
    return segresnet_backbone(network, config)


def segresnet_backbone(network: SegResNet, config: SegResNetConfig) -> Backbone:
    """The backbone that is made of a network's own layers."""
    first, *rest = network.down_layers
    ups = zip(network.up_samples, network.up_layers, strict=True)
    channels = {stride: stride * config.init_filters for stride in config.strides}
    return Backbone(
        EncoderStages([nn.Sequential(network.convInit, first), *rest]),
        DecoderStages([AddingStage(up, blocks) for up, blocks in ups], network.conv_final),
        encoder_channels=channels,
        decoder_channels={stride: width for stride, width in channels.items() if stride < max(channels)},
    )


def monai_segresnet(config: SegResNetConfig) -> SegResNet:
    """MONAI's network, with InstanceNorm and transposed convolutions where it defaults to GroupNorm and trilinear.

    Trilinear up-sampling has no deterministic backward pass on CUDA.
    """
    return SegResNet(**segresnet_arguments(config))


def segresnet_arguments(config: SegResNetConfig) -> dict[str, Any]:
    """What MONAI's class is called with, as plain containers."""
    return {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "init_filters": config.init_filters,
        "norm": ["INSTANCE", {"affine": True}],
        "blocks_down": list(config.blocks_down),
        "blocks_up": list(config.blocks_up),
        "upsample_mode": "deconv",
    }
