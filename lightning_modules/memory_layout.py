"""Norms that leave the layout of their input in memory as it is, and mistake no other for their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def keep_layout(network: nn.Module) -> None:
    """Let every ``InstanceNorm3d`` and ``GroupNorm`` in ``network`` hand on channels-last maps as channels-last.

    PyTorch's InstanceNorm returns a view of a channels-first copy, as its GroupNorm does on a GPU. Everything behind
    it would then convert again and again: the next convolution in both directions, and the in-place activation, whose
    gradient takes a detour where it wrote into a view. Values do not change; without channels-last maps nothing is
    done.

    For a batch of one they also hand back their gradient channels-first: there PyTorch's InstanceNorm on a CPU (2.13)
    takes a channels-last gradient for a channels-first one, and all weights before it would learn from garbage.
    """
    for layer in network.modules():
        if isinstance(layer, nn.InstanceNorm3d | nn.GroupNorm):
            layer.register_forward_hook(_as_the_input)


def _as_the_input(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    if len(output) == 1 and output.requires_grad:
        output.register_hook(_channels_first)  # type: ignore[no-untyped-call]  # torch types no register_hook
    last = torch.channels_last_3d
    if inputs[0].is_contiguous(memory_format=last) and not inputs[0].is_contiguous():
        return output.contiguous(memory_format=last)
    return output


def _channels_first(gradient: Tensor) -> Tensor:
    return gradient.contiguous()
