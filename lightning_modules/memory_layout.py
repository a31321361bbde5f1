"""Instance norms that leave the layout of their input in memory as it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def keep_layout(network: nn.Module) -> None:
    """Let every ``InstanceNorm3d`` in ``network`` hand on channels-last maps as channels-last.

    PyTorch's returns a view of a channels-first copy. Everything behind it would then convert again and again: the
    next convolution in both directions, and the in-place activation, whose gradient takes a detour where it wrote
    into a view. Values do not change; without channels-last maps nothing is done.
    """
    for layer in network.modules():
        if isinstance(layer, nn.InstanceNorm3d):
            layer.register_forward_hook(_as_the_input)


def _as_the_input(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    last = torch.channels_last_3d
    if inputs[0].is_contiguous(memory_format=last) and not inputs[0].is_contiguous():
        return output.contiguous(memory_format=last)
    return output
