"""Convolutions that leave half precision aside where a map is smaller than their kernel.

On CPUs PyTorch's bf16 weight gradient of such a convolution holds uninitialised memory (2.13, by oneDNN, of
channels-last maps): garbage, infinite now and then. The bottleneck of a deep network on a small patch is such a map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CarefulConv3d(nn.Conv3d):
    """``Conv3d``, in full precision where its input is small."""

    def forward(self, input: Tensor) -> Tensor:
        """As its base class."""
        if not _is_small(self, input):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.to(self.weight.dtype))


class CarefulConvTranspose3d(nn.ConvTranspose3d):
    """``ConvTranspose3d``, in full precision where its input is small."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As its base class."""
        if not _is_small(self, input):
            return super().forward(input, output_size)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.to(self.weight.dtype), output_size)


def be_careful(network: nn.Module) -> None:
    """Make every 3-D convolution in ``network`` a careful one, in place: its weights and their names stay."""
    for layer in network.modules():
        if type(layer) is nn.Conv3d:
            layer.__class__ = CarefulConv3d
        elif type(layer) is nn.ConvTranspose3d:
            layer.__class__ = CarefulConvTranspose3d


def _is_small(layer: nn.Conv3d | nn.ConvTranspose3d, values: Tensor) -> bool:
    return values.device.type == "cpu" and any(
        edge < kernel for edge, kernel in zip(values.shape[2:], layer.kernel_size, strict=True)
    )
