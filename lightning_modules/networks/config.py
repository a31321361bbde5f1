"""What the backbones can be told."""

from __future__ import annotations

from dataclasses import dataclass

from datamodules.registry import Registry

NETWORKS = Registry("network")


@dataclass
class NetworkConfig:
    """What every backbone has: its name."""

    name: str

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of its features, from 1 to the coarsest; a patch's edges are multiples of the last."""
        return (1,)


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
        return tuple(2**level for level in range(len(self.filters)))
