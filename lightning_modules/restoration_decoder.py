"""The thin decoder that restores appearance from the encoder's features.

It has no skip at stride 1: from there the corrupted image could be copied. Up-sampling is by transposed
convolution, whose backward pass is deterministic.
"""

from __future__ import annotations

from torch import Tensor, nn

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
    """

    def __init__(self, encoder_channels: dict[int, int], channels: int, seed: int) -> None:
        super().__init__()
        self.strides = sorted((stride for stride in encoder_channels if stride > 1), reverse=True)
        with keyed_initialisation(seed, "restoration decoder"):
            self.laterals = nn.ModuleList(
                nn.Conv3d(encoder_channels[stride], channels, kernel_size=1) for stride in self.strides
            )
            self.norms = nn.ModuleList(nn.InstanceNorm3d(channels, affine=True) for _ in self.strides)
            self.ups = nn.ModuleList(
                nn.ConvTranspose3d(channels, channels if stride > min(self.strides) else 1, kernel_size=2, stride=2)
                for stride in self.strides
            )
        self.activation = nn.LeakyReLU(SLOPE)
        keep_layout(self)

    def forward(self, encoder: dict[int, Tensor]) -> Tensor:
        """B×1×D×H×W, the restored image, from encoder features by stride."""
        x: Tensor | None = None
        for stride, lateral, norm, up in zip(self.strides, self.laterals, self.norms, self.ups, strict=True):
            y = lateral(encoder[stride])
            x = up(self.activation(norm(y if x is None else x + y)))
        assert x is not None  # the network has at least three strides
        return x
