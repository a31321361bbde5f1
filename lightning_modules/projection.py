"""The head that projects decoder features into the space in which they are contrasted."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.randomness import torch_generator

SLOPE = 0.01


class ProjectionHead(nn.Module):
    """1×1×1 convolution C→C, LeakyReLU, 1×1×1 convolution C→E, and length 1.

    A 1×1×1 convolution is a linear map of each cell: so the head takes the sampled cells instead of the whole map.
    Initialised from a stream of its own, so that building it changes no other weights.

    Args:
        channels: C of the features.
        dimension: E of the embedding.
        seed: of the run.
    """

    def __init__(self, channels: int, dimension: int, seed: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels, device="meta").to_empty(device="cpu")
        self.output = nn.Linear(channels, dimension, device="meta").to_empty(device="cpu")
        generator = torch_generator(seed, "projection head")
        for layer, slope in ((self.hidden, SLOPE), (self.output, 1.0)):
            gain = nn.init.calculate_gain("leaky_relu", slope)
            with torch.no_grad():
                layer.weight.normal_(0.0, gain / sqrt(channels), generator=generator)
                # Not 0: features of 0 would project to 0, where the gradient of a direction has no bound.
                layer.bias.normal_(0.0, 1 / sqrt(channels), generator=generator)

    def forward(self, cells: Tensor) -> Tensor:
        """Project …×C features of any precision to …×E unit vectors in at least float32."""
        with torch.autocast(cells.device.type, enabled=False):
            weight: Tensor = self.hidden.weight
            cells = cells.to(torch.promote_types(cells.dtype, weight.dtype))
            projected: Tensor = self.output(F.leaky_relu(self.hidden(cells), SLOPE))
            return F.normalize(projected.to(torch.promote_types(projected.dtype, torch.float32)), dim=-1)
