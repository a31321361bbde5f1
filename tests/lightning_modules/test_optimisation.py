"""Optimisers decay weights alone, and rates run from near zero over their peak to their end."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from lightning_modules.config import (
    OPTIMIZERS,
    SCHEDULES,
    AdamWConfig,
    CosineConfig,
    OptimizerConfig,
    PolyConfig,
    ScheduleConfig,
    SGDConfig,
)
from lightning_modules.schedules import Progress


def network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True), nn.ConvTranspose3d(2, 1, 2))


@pytest.mark.parametrize(("config", "kind"), [(AdamWConfig(), AdamW), (SGDConfig(), SGD)])
def test_norms_and_biases_are_not_decayed_and_everything_is_optimised_once(
    config: OptimizerConfig, kind: type[torch.optim.Optimizer]
) -> None:
    module = network()
    optimizer = OPTIMIZERS.build(config, module)
    assert isinstance(optimizer, kind)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(module.parameters()))
    for parameter in module.parameters():
        assert decay[id(parameter)] == (config.weight_decay if parameter.ndim > 1 else 0)


def rates(config: ScheduleConfig, steps: int) -> list[float]:
    optimizer = SGD(network().parameters(), lr=2.0)
    schedule = SCHEDULES.build(config, optimizer, steps)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_poly_is_nnunets_after_a_linear_warmup() -> None:
    found = rates(PolyConfig(warmup=0.1, power=0.9), 100)
    for step, rate in enumerate(found):
        assert rate == pytest.approx(2 * min(1, (step + 1) / 10) * (1 - step / 100) ** 0.9)


def test_cosine_ends_at_its_floor() -> None:
    found = rates(CosineConfig(warmup=0.0, floor=0.25), 50)
    assert found[0] == pytest.approx(2)
    assert found[25] == pytest.approx(2 * (0.25 + 0.75 * (1 + math.cos(math.pi / 2)) / 2))
    assert found[-1] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("config", [PolyConfig(), CosineConfig()])
def test_no_step_is_without_a_rate(config: ScheduleConfig) -> None:
    assert min(rates(config, 30)) > 0


def test_ramp_has_no_flat_zero_phase_and_is_full_at_its_share() -> None:
    weights = [Progress(step, 100).ramp(0.1) for step in range(100)]
    assert weights[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert set(weights[10:]) == {1.0}
    assert Progress(0, 100).ramp(0.0) == 1.0
    assert Progress(0, 5).ramp(0.1) == 1.0
    assert [Progress(s, 100).passed(0.1) for s in (0, 5, 10, 50)] == pytest.approx([0, 0.5, 1, 1])
