"""What every backbone offers: features of the encoder and the decoder by stride, beside the logits.

B sample, C channels, D H W voxels; a feature map at stride k is B×C×D/k×H/k×W/k.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from lightning_modules.memory_layout import keep_layout
from lightning_modules.networks.stages import DecoderStages, EncoderStages
from lightning_modules.small_maps import be_careful


class Features(NamedTuple):
    """All that one pass through a backbone gives."""

    encoder: dict[int, Tensor]
    """By stride, the bottleneck's included."""
    decoder: dict[int, Tensor]
    """By stride, from 1 to the last before the bottleneck's."""
    logits: Tensor
    """B×1×D×H×W."""
    deep: list[Tensor]
    """Logits at strides 2, 4, … for deep supervision; empty without it and in evaluation."""


class Backbone(nn.Module):
    """An encoder and a decoder that can be run apart: what needs the encoder alone does not pay for the decoder.

    Args:
        encoder: B×1×D×H×W → encoder features by stride.
        decoder: encoder features by stride → (decoder features by stride, logits, deep logits).
        encoder_channels: C of the encoder's features by stride.
        decoder_channels: C of the decoder's features by stride.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: DecoderStages,
        encoder_channels: dict[int, int],
        decoder_channels: dict[int, int],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.encoder_channels = encoder_channels
        self.decoder_channels = decoder_channels
        keep_layout(self)
        be_careful(self)

    @property
    def largest_stride(self) -> int:
        """Stride of the bottleneck: every patch must be a multiple of it."""
        return max(self.encoder_channels)

    def encode(self, image: Tensor) -> dict[int, Tensor]:
        """Encoder features by stride of B×1×D×H×W."""
        features: dict[int, Tensor] = self.encoder(image)
        return features

    def decode(self, encoder: dict[int, Tensor]) -> Features:
        """What the decoder makes of :meth:`encode`'s features."""
        decoder, logits, deep = self.decoder(encoder)
        return Features(encoder, decoder, logits, deep)

    def forward(self, image: Tensor) -> Features:
        """Both, one after the other."""
        return self.decode(self.encode(image))

    def unseen(self, image: Tensor) -> Features:
        """What stands for a pass of B×1×D×H×W that nothing reads: no features, and logits of 0."""
        return Features({}, {}, torch.zeros_like(image), [])

    def perturb_encoder(self, perturb: Callable[[int, Tensor], Tensor]) -> None:
        """Let each of the encoder's stages go on with what ``perturb`` makes of its stride and features.

        Of an encoder that is a row of stages (:attr:`~.config.NetworkConfig.staged`) alone.
        """
        assert isinstance(self.encoder, EncoderStages)
        self.encoder.perturb = perturb

    def encoder_parameters(self) -> list[Parameter]:
        """The weights that all terms of the loss share."""
        return list(self.encoder.parameters())

    def freeze_beyond(self, stride: int | None) -> None:
        """Freeze the decoder beyond its features at ``stride``: what no loss can reach that reads them alone.

        Finer stages and the heads of the logits keep their weights (no gradient that DDP would wait for, no weight
        decay) and are no longer run: the logits become 0, finer features are gone.

        Args:
            stride: of the finest features that are read; None where the encoder's alone are.
        """
        self.decoder.freeze_from(0 if stride is None else self._stages_to(stride))

    def compile(self, *args: Any, backend: str | Callable[..., Any] = "inductor", **kwargs: Any) -> None:
        """Compile encoder and decoder in place, so that they are compiled also where they run apart.

        The names of the weights stay as they are. For the arguments see :func:`torch.compile`.
        """
        from torch._functorch import config

        # A compiled backward pass may otherwise reuse its saved tensors, but the gradient norms of the terms are
        # measured on the graph that is then trained on.
        config.donated_buffer = False
        self.encoder.compile(*args, backend=backend, **kwargs)
        self.decoder.compile(*args, backend=backend, **kwargs)

    def _stages_to(self, stride: int) -> int:
        """How many of the decoder's stages, deepest first, it takes to come to ``stride``."""
        return sum(reached >= stride for reached in self.decoder_channels)
