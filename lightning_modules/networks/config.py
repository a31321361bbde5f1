"""What the backbones can be told."""

from __future__ import annotations

from dataclasses import dataclass

from datamodules.registry import Registry

NETWORKS = Registry("network")


@dataclass
class NetworkConfig:
    """What every backbone has: its name."""

    name: str


@NETWORKS.register("dynunet", target="lightning_modules.networks.dynunet:DynUNetBackbone")
@dataclass
class DynUNetConfig(NetworkConfig):
    """MONAI's DynUNet, the U-Net of nnU-Net (Isensee et al., 2021), with InstanceNorm.

    Attributes:
        filters: channels at strides 1, 2, 4, …; their number is the number of levels.
        residual: residual instead of plain blocks.
        deep_supervision: also supervise the decoder at strides 2 and 4.
    """

    name: str = "dynunet"
    filters: tuple[int, ...] = (32, 64, 128, 256, 320)
    residual: bool = False
    deep_supervision: bool = False
