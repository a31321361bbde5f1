"""Encoders and decoders as rows of stages, one for each stride, so that every feature map is at hand.

B sample, C channels, D H W voxels; a feature map at stride k is B×C×D/k×H/k×W/k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

DEEP_HEADS = 2
"""Deep supervision looks at strides 2 and 4, whatever the network, so that networks compare."""


class EncoderStages(nn.Module):
    """The stages on the way down, each fed by the one before it.

    Args:
        stages: one per stride 1, 2, 4, …, the bottleneck last.
    """

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.perturb: Callable[[int, Tensor], Tensor] | None = None
        """Takes a stage's stride and features and gives what goes on in their stead."""

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Features by stride of B×1×D×H×W."""
        features: dict[int, Tensor] = {}
        x = image
        for level, stage in enumerate(self.stages):
            x = stage(x)
            if self.perturb is not None:
                x = self.perturb(2**level, x)
            features[2**level] = x
        return features


class DecoderStages(nn.Module):
    """The stages on the way up.

    Args:
        stages: the deepest first; each takes the coarser map and the encoder's map at its own stride.
        output: decoder features at stride 1 → logits.
        deep: the same for strides 2, 4, …; may be empty.
    """

    def __init__(self, stages: Sequence[nn.Module], output: nn.Module, deep: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.output = output
        self.deep = nn.ModuleList(deep)
        self._count = len(self.stages)
        self._predicts = True

    def forward(self, encoder: dict[int, Tensor]) -> tuple[dict[int, Tensor], Tensor, list[Tensor]]:
        """Decoder features by stride, logits at stride 1, logits at strides 2, 4, … while training."""
        features: dict[int, Tensor] = {}
        stride = max(encoder)
        x = encoder[stride]
        for stage in list(self.stages)[: self._count]:
            stride //= 2
            x = stage(x, encoder[stride])
            features[stride] = x
        if not self._predicts:
            finest = encoder[min(encoder)]
            return features, finest.new_zeros(finest.shape[0], 1, *finest.shape[2:]), []
        deep = [head(features[2 ** (i + 1)]) for i, head in enumerate(self.deep)] if self.training else []
        return features, self.output(x), deep

    def freeze_from(self, count: int) -> None:
        """Keep the first ``count`` stages alone: those behind them, and all heads, are frozen and no longer run.

        The logits are 0 from then on: no prediction, every voxel as uncertain as can be.
        """
        self._count, self._predicts = count, False
        for part in (*list(self.stages)[count:], self.output, self.deep):
            part.requires_grad_(False)


class AddingStage(nn.Module):
    """Up, plus the skip, through blocks.

    Args:
        up: from the coarser map to the skip's size and channels.
        blocks: what the sum goes through.
    """

    def __init__(self, up: nn.Module, blocks: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.blocks = blocks

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """B×C×d×h×w at the skip's stride."""
        y: Tensor = self.blocks(self.up(x) + skip)
        return y
