"""MONAI's SwinUNETR, its parts run one by one so that every feature map is at hand.

The encoder is the Swin transformer alone: it is what the network's authors pre-train (Tang et al., 2022), and what
passes through it alone does not pay for convolutions at full resolution. What MONAI calls ``encoder1`` to
``encoder10``, the convolutions on each skip, belong to the decoder's stage of that stride. So the encoder's feature at
stride 1 is the image itself.
"""

from __future__ import annotations

from typing import Any

from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from lightning_modules.keyed_initialisation import keyed_initialisation
from lightning_modules.networks.backbone import Backbone
from lightning_modules.networks.config import SwinUNETRConfig, refuse_faults
from lightning_modules.networks.stages import DecoderStages


class SwinEncoder(nn.Module):
    """The Swin transformer, its features layer-normed without weights, as MONAI's network takes them.

    Args:
        transformer: B×1×D×H×W → features at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Features by stride of B×1×D×H×W; at stride 1 the image."""
        hidden: list[Tensor] = self.transformer(image, normalize=True)
        return {1: image, **{2 ** (level + 1): x for level, x in enumerate(hidden)}}


class SwinStage(nn.Module):
    """Up, joined with the skip, each through convolutions of its own first.

    Args:
        up: from the coarser map and the skip to this stage's features.
        skip: what the encoder's map at this stride goes through.
        below: what the coarser map goes through; the bottleneck's only.
    """

    def __init__(self, up: nn.Module, skip: nn.Module | None = None, below: nn.Module | None = None) -> None:
        super().__init__()
        self.up = up
        self.skip = skip or nn.Identity()
        self.below = below or nn.Identity()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """B×C×d×h×w at the skip's stride."""
        y: Tensor = self.up(self.below(x), self.skip(skip))
        return y


def build_swin_unetr(config: SwinUNETRConfig, seed: int) -> Backbone:
    """A SwinUNETR of one input and one output channel, initialised by MONAI's rule.

    The transformer has LayerNorm, the decoder InstanceNorm and transposed convolutions; no dropout, no drop path.

    Args:
        config: its settings.
        seed: of the run; the weights depend on it and the settings alone.

    Raises:
        UsageError: sizes that don't fit together.
    """
    refuse_faults(config)
    with keyed_initialisation(seed, "backbone"):
        network = monai_swin_unetr(config)
    return swin_unetr_backbone(network, config)


def swin_unetr_backbone(network: SwinUNETR, config: SwinUNETRConfig) -> Backbone:
    """The backbone that is made of a network's own layers."""
    stages = [
        SwinStage(network.decoder5, below=network.encoder10),
        SwinStage(network.decoder4, network.encoder4),
        SwinStage(network.decoder3, network.encoder3),
        SwinStage(network.decoder2, network.encoder2),
        SwinStage(network.decoder1, network.encoder1),
    ]
    width = config.feature_size
    coarser = {stride: stride * width // 2 for stride in config.strides[1:]}
    return Backbone(
        SwinEncoder(network.swinViT),
        DecoderStages(stages, network.out),
        encoder_channels={1: 1, **coarser},
        decoder_channels={1: width, **{stride: c for stride, c in coarser.items() if stride < max(coarser)}},
    )


def monai_swin_unetr(config: SwinUNETRConfig) -> SwinUNETR:
    """MONAI's network as it comes, without dropout and drop path."""
    return SwinUNETR(**swin_unetr_arguments(config))


def swin_unetr_arguments(config: SwinUNETRConfig) -> dict[str, Any]:
    """What MONAI's class is called with, as plain containers."""
    return {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "feature_size": config.feature_size,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_size,
    }
