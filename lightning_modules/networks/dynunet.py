"""MONAI's DynUNet, its stages run one by one so that every feature map is at hand."""

from __future__ import annotations

from typing import Any

from monai.networks.nets import DynUNet

from lightning_modules.keyed_initialisation import keyed_initialisation
from lightning_modules.networks.backbone import Backbone
from lightning_modules.networks.config import DynUNetConfig, refuse_faults
from lightning_modules.networks.stages import DEEP_HEADS, DecoderStages, EncoderStages


def build_dynunet(config: DynUNetConfig, seed: int) -> Backbone:
    """A DynUNet of one input and one output channel with InstanceNorm, initialised by MONAI's rule.

    Up-sampling is by transposed convolution.

    Args:
        config: its settings.
        seed: of the run; the weights depend on it and the settings alone.

    Raises:
        UsageError: too few levels.
    """
    refuse_faults(config)
    heads = min(DEEP_HEADS, len(config.filters) - 2) if config.deep_supervision else 0
    with keyed_initialisation(seed, "backbone"):
        network = monai_dynunet(config, heads)
    return dynunet_backbone(network, config)


def dynunet_backbone(network: DynUNet, config: DynUNetConfig) -> Backbone:
    """The backbone that is made of a network's own layers."""
    deep = list(network.deep_supervision_heads) if network.deep_supervision else []
    channels = dict(zip(config.strides, config.filters, strict=True))
    return Backbone(
        EncoderStages([network.input_block, *network.downsamples, network.bottleneck]),
        DecoderStages(network.upsamples, network.output_block, deep),
        encoder_channels=channels,
        decoder_channels={stride: width for stride, width in channels.items() if stride < max(channels)},
    )


def monai_dynunet(config: DynUNetConfig, deep_heads: int = 0) -> DynUNet:
    """MONAI's network as it comes: isotropic kernels of 3, strides of 2."""
    heads = {"deep_supervision": True, "deep_supr_num": deep_heads} if deep_heads else {}
    return DynUNet(**dynunet_arguments(config), **heads)


def dynunet_arguments(config: DynUNetConfig) -> dict[str, Any]:
    """What MONAI's class is called with, as plain containers."""
    levels = len(config.filters)
    return {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "kernel_size": [3] * levels,
        "strides": [1] + [2] * (levels - 1),
        "upsample_kernel_size": [2] * (levels - 1),
        "filters": list(config.filters),
        "norm_name": ["INSTANCE", {"affine": True}],
        "res_block": config.residual,
    }
