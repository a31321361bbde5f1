"""What the backbones can be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from datamodules.errors import UsageError
from datamodules.registry import Registry

NETWORKS = Registry("network")

FEWEST_LEVELS = 3
"""Contrast and restoration need features between full resolution and the bottleneck."""


@dataclass
class NetworkConfig:
    """What every backbone has: its name."""

    name: str

    staged: ClassVar[bool] = True
    """Whether its encoder is a row of stages, behind each of which its features can be perturbed."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of its features, from 1 to the coarsest; a patch's edges are multiples of the last."""
        return (1,)

    def faults(self) -> Iterator[tuple[str, str]]:
        """What can't be built: the key, and the sentence that follows it."""
        yield from ()


def refuse_faults(config: NetworkConfig) -> None:
    """Refuse a network that can't be built.

    Raises:
        UsageError: with the first of its faults.
    """
    for key, sentence in config.faults():
        raise UsageError(f"model.network.{key}: {sentence}")


@NETWORKS.register("dynunet", target="lightning_modules.networks.dynunet:build_dynunet")
@dataclass
class DynUNetConfig(NetworkConfig):
    """MONAI's DynUNet, the U-Net of nnU-Net (Isensee et al., 2021), with InstanceNorm.

    Attributes:
        filters: channels at strides 1, 2, 4, …; their number is the number of levels.
        residual: residual instead of plain blocks.
        deep_supervision: also supervise the decoder at strides 2 and 4, with halved weights.
    """

    name: str = "dynunet"
    filters: tuple[int, ...] = (32, 64, 128, 256, 320)
    residual: bool = False
    deep_supervision: bool = False

    @property
    def strides(self) -> tuple[int, ...]:
        """1, 2, 4, … one for each entry of ``filters``."""
        return _halvings(len(self.filters))

    def faults(self) -> Iterator[tuple[str, str]]:
        """Too few levels, or a level without channels."""
        if len(self.filters) < FEWEST_LEVELS or min(self.filters) < 1:
            yield (
                "filters",
                f"must name at least {FEWEST_LEVELS} positive widths, one for each of the strides 1, 2, 4, …, "
                f"not {list(self.filters)}.",
            )


@NETWORKS.register("segresnet", target="lightning_modules.networks.segresnet:build_segresnet")
@dataclass
class SegResNetConfig(NetworkConfig):
    """MONAI's SegResNet (Myronenko, 2018) without its autoencoder branch, with InstanceNorm.

    Attributes:
        init_filters: channels at stride 1; they double with each stride.
        blocks_down: residual blocks of the encoder at strides 1, 2, 4, …; their number is the number of levels.
        blocks_up: residual blocks of the decoder, the coarsest stride first; one entry fewer.
    """

    name: str = "segresnet"
    init_filters: int = 32
    blocks_down: tuple[int, ...] = (1, 2, 2, 4)
    blocks_up: tuple[int, ...] = (1, 1, 1)

    @property
    def strides(self) -> tuple[int, ...]:
        """1, 2, 4, … one for each entry of ``blocks_down``."""
        return _halvings(len(self.blocks_down))

    def faults(self) -> Iterator[tuple[str, str]]:
        """Too few levels, or a way up that does not come back to full resolution."""
        down, up = self.blocks_down, self.blocks_up
        if len(down) < FEWEST_LEVELS or min(down) < 1:
            yield "blocks_down", f"must name at least {FEWEST_LEVELS} levels of 1 block or more, not {list(down)}."
        elif len(up) != len(down) - 1 or min(up) < 1:
            yield (
                "blocks_up",
                f"must name 1 block or more for each of the {len(down) - 1} levels above the bottleneck of "
                f"blocks_down, not {list(up)}.",
            )


@NETWORKS.register("swin_unetr", target="lightning_modules.networks.swin_unetr:build_swin_unetr")
@dataclass
class SwinUNETRConfig(NetworkConfig):
    """MONAI's SwinUNETR (Hatamizadeh et al., 2022): a Swin transformer with a convolutional decoder.

    Attributes:
        feature_size: channels at strides 1 and 2; from there on they double with each stride. A multiple of 12.
        depths: transformer blocks at strides 2, 4, 8 and 16.
        num_heads: attention heads at the same strides.
        window_size: edge of the attention windows, in cells.
    """

    staged: ClassVar[bool] = False

    name: str = "swin_unetr"
    feature_size: int = 48
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    num_heads: tuple[int, int, int, int] = (3, 6, 12, 24)
    window_size: int = 7

    @property
    def strides(self) -> tuple[int, ...]:
        """1, 2, 4, 8, 16 and 32, always."""
        return _halvings(6)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Channels that can't be shared out among the heads."""
        if self.feature_size < 1 or self.feature_size % 12:
            yield "feature_size", f"must be a multiple of 12, not {self.feature_size}."
            return
        if min(self.depths) < 1:
            yield "depths", f"must name 1 block or more for each of strides 2, 4, 8 and 16, not {list(self.depths)}."
        widths = [self.feature_size * 2**level for level in range(len(self.num_heads))]
        if any(heads < 1 or width % heads for width, heads in zip(widths, self.num_heads, strict=True)):
            yield "num_heads", f"must divide the channels {widths}, not {list(self.num_heads)}."


@NETWORKS.register("mednext", target="lightning_modules.networks.mednext:build_mednext")
@dataclass
class MedNeXtConfig(NetworkConfig):
    """MONAI's MedNeXt (Roy et al., 2023): a U-Net of ConvNeXt blocks with large depthwise kernels.

    Attributes:
        size: the paper's S, B, M or L: how many blocks, and how wide within.
        init_filters: channels at stride 1; they double with each stride.
        kernel_size: of the depthwise convolutions; the paper's are 3 and 5.
        deep_supervision: also supervise the decoder at strides 2 and 4, with halved weights.
    """

    name: str = "mednext"
    size: Literal["S", "B", "M", "L"] = "S"
    init_filters: int = 32
    kernel_size: int = 3
    deep_supervision: bool = False

    @property
    def strides(self) -> tuple[int, ...]:
        """1, 2, 4, 8 and 16, always."""
        return _halvings(5)

    def faults(self) -> Iterator[tuple[str, str]]:
        """No channels, or a kernel without a centre."""
        if self.init_filters < 1:
            yield "init_filters", f"must be at least 1, not {self.init_filters}."
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            yield "kernel_size", f"must be odd, not {self.kernel_size}."


def _halvings(levels: int) -> tuple[int, ...]:
    return tuple(2**level for level in range(max(levels, 1)))
