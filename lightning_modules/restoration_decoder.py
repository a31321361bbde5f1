"""What restores appearance from the features of the corrupted image: a thin decoder of its own, or a head.

By default there is no skip at stride 1: from there the corrupted image could be copied. Up-sampling is by transposed
convolution, whose backward pass is deterministic.
"""

from __future__ import annotations

from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_modules.keyed_initialisation import keyed_initialisation
from lightning_modules.memory_layout import keep_layout

SLOPE = 0.01


class RestorationDecoder(nn.Module):
    """1×1×1 laterals from every stride ≥ 2, summed on the way up; nothing but the encoder can hold knowledge.

    The output is linear: the smooth L1 needs no bounds, and a sigmoid would hardly learn the clipped ends of the
    window (air and bone), where its slope vanishes.

    Args:
        encoder_channels: C of the encoder's features by stride 1, 2, 4, ….
        channels: width of this decoder.
        seed: of the run; weights come from a stream of their own.
        skip: a lateral from stride 1 too.
    """

    def __init__(self, encoder_channels: dict[int, int], channels: int, seed: int, skip: bool = False) -> None:
        super().__init__()
        finest = 1 if skip else 2
        self.strides = sorted((stride for stride in encoder_channels if stride >= finest), reverse=True)
        with keyed_initialisation(seed, "restoration decoder"):
            self.laterals = nn.ModuleList(
                nn.Conv3d(encoder_channels[stride], channels, kernel_size=1) for stride in self.strides
            )
            self.norms = nn.ModuleList(nn.InstanceNorm3d(channels, affine=True) for _ in self.strides)
            # The last one leads to the image, from stride 1 without a change of size.
            self.ups = nn.ModuleList(
                _up(channels, channels if stride > finest else 1, min(stride, 2)) for stride in self.strides
            )
        self.activation = nn.LeakyReLU(SLOPE)
        keep_layout(self)

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """B×1×D×H×W, the restored image, from encoder features by stride."""
        x: Tensor | None = None
        for stride, lateral, norm, up in zip(self.strides, self.laterals, self.norms, self.ups, strict=True):
            y = lateral(features[stride])
            x = up(self.activation(norm(y if x is None else x + y)))
        assert x is not None  # the network has at least three strides
        return x


def _up(channels: int, wanted: int, factor: int) -> nn.Module:
    return BlockwiseUp(channels, wanted, kernel_size=factor, stride=factor)


class BlockwiseUp(nn.ConvTranspose3d):
    """A transposed convolution whose kernel is as wide as its stride, as one product.

    Each voxel becomes a block that no other voxel has a part in: a linear map of its channels, a 1×1×1 convolution to
    channels × voxels of a block, which are then put in place. For so few channels that is faster on CPUs.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As its base class; channels-last."""
        assert self.bias is not None
        edges = self.weight.shape[2:]
        maps = self.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)[..., None, None, None]
        blocks = F.conv3d(input, maps, self.bias.repeat(prod(edges))).movedim(1, -1)
        # B×D×H×W×i×j×k×C, and then B×(D·i)×(H·j)×(W·k)×C.
        placed = blocks.view(*blocks.shape[:4], *edges, self.out_channels).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return placed.flatten(5, 6).flatten(3, 4).flatten(1, 2).movedim(-1, 1)


class RestorationHead(nn.Module):
    """A 1×1×1 convolution of the segmentation decoder's finest features, for a decoder shared by both tasks.

    Args:
        channels: C of the decoder's features at stride 1.
        seed: of the run; weights come from a stream of their own.
    """

    strides = (1,)

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        with keyed_initialisation(seed, "restoration head"):
            self.head = nn.Conv3d(channels, 1, kernel_size=1)

    def forward(self, features: dict[int, Tensor]) -> Tensor:
        """B×1×D×H×W, the restored image, from decoder features by stride."""
        restored: Tensor = self.head(features[1])
        return restored
