"""Optimisers and learning-rate schedules, found by name."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_modules.config import AdamWConfig, CosineConfig, PolyConfig, ScheduleConfig, SGDConfig


def adamw(config: AdamWConfig, module: nn.Module) -> Optimizer:
    """AdamW over the module's parameters."""
    return AdamW(_groups(module, config.weight_decay), lr=config.lr, betas=(config.betas[0], config.betas[1]))


def sgd(config: SGDConfig, module: nn.Module) -> Optimizer:
    """SGD with Nesterov momentum over the module's parameters."""
    nesterov = config.momentum > 0
    return SGD(_groups(module, config.weight_decay), lr=config.lr, momentum=config.momentum, nesterov=nesterov)


def poly(config: PolyConfig, optimizer: Optimizer, steps: int) -> LambdaLR:
    """Warm-up, then (1 − t)^power, where t runs from 0 to 1 over the ``steps`` optimiser steps."""
    return _schedule(config, optimizer, steps, lambda t: (1 - t) ** config.power)


def cosine(config: CosineConfig, optimizer: Optimizer, steps: int) -> LambdaLR:
    """Warm-up, then half a cosine down to ``floor`` × the peak over the ``steps`` optimiser steps."""
    return _schedule(config, optimizer, steps, lambda t: config.floor + (1 - config.floor) * (1 + cos(pi * t)) / 2)


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Norms and biases (all that has at most one axis) apart: decay would only pull them off their scale."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, object]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return groups


def _schedule(config: ScheduleConfig, optimizer: Optimizer, steps: int, shape: Callable[[float], float]) -> LambdaLR:
    warmup = config.warmup * steps

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
        return rising * shape(min(1.0, step / steps))

    return LambdaLR(optimizer, factor)
