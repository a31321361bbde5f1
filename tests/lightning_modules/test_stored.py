"""A checkpoint of another version or of another model says what differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.errors import UsageError
from experiments import initial_weights
from lightning_modules.config import ContrastiveConfig, ModelConfig, Preprocessing, RestorationConfig
from lightning_modules.dual_ssl import DualSSLModule
from lightning_modules.loading import load_module
from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.plain import to_plain, unknown_names
from lightning_modules.stored import misfit, this_version

Checkpoint = dict[str, Any]


@pytest.fixture
def checkpoint() -> Checkpoint:
    model = ModelConfig(
        network=DynUNetConfig(filters=(2, 4, 8)),
        contrastive=ContrastiveConfig(weight=0),
        restoration=RestorationConfig(weight=0),
    )
    module = DualSSLModule(model, Preprocessing((6.0, 6.0, 6.0), (-100.0, 240.0), (8, 8, 8)))
    content: Checkpoint = {
        "hyper_parameters": dict(module.hparams),
        "state_dict": module.state_dict(),
        "global_step": 1,
    }
    module.on_save_checkpoint(content)
    return content


def test_what_is_written_here_is_signed_and_loads(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert checkpoint["pansite_version"] == this_version()
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert load_module(tmp_path / "a.ckpt").config.network.name == "dynunet"


def older(content: Checkpoint) -> None:
    content["pansite_version"] = "0.0.1"


def unknown(content: Checkpoint) -> None:
    older(content)
    content["hyper_parameters"]["model"]["contrastive"]["heat"] = 3
    content["hyper_parameters"]["model"]["colour"] = "blue"


def unregistered(content: Checkpoint) -> None:
    content["hyper_parameters"]["model"]["network"] = {"name": "unet9000"}


def reshaped(content: Checkpoint) -> None:
    older(content)
    name = next(name for name, value in content["state_dict"].items() if value.ndim == 5)
    content["state_dict"][name] = torch.zeros(7, 1, 3, 3, 3)
    content["state_dict"]["extra.weight"] = torch.zeros(3)


def unsigned(content: Checkpoint) -> None:
    del content["pansite_version"]
    content["state_dict"].pop(next(iter(content["state_dict"])))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unknown, r"2 settings are not known here, as model\.contrastive\.heat \(written by Pansite 0\.0\.1, read by "),
        (unregistered, r"1 setting is not known here, as model\.network\.name=unet9000 \(written by Pansite "),
        (
            reshaped,
            r"2 weights differ, as network\..*, which is 7×1×3×3×3 instead of .*written by Pansite 0\.0\.1, read",
        ),
        (unsigned, r"1 weight differs, as network\..*, which is not there instead of .*that did not sign it, read by "),
    ],
)
def test_what_differs_is_told_by_the_first_their_number_and_the_version_that_wrote_it(
    checkpoint: Checkpoint, tmp_path: Path, change: Callable[[Checkpoint], None], said: str
) -> None:
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match=rf"a\.ckpt: does not fit: {said}") as told:
        load_module(tmp_path / "a.ckpt")
    assert "\n" not in str(told.value)


def test_weights_to_start_from_say_it_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    torch.save(checkpoint, tmp_path / "a.ckpt")
    module = load_module(tmp_path / "a.ckpt")
    reshaped(checkpoint)
    torch.save(checkpoint, tmp_path / "b.ckpt")
    with pytest.raises(
        UsageError, match=r"does not fit model\.network: 1 weight differs, as .*Pansite 0\.0\.1, read by"
    ):
        initial_weights.load(module, tmp_path / "b.ckpt")


def test_a_configuration_knows_its_own_names() -> None:
    assert unknown_names(ModelConfig, to_plain(ModelConfig())) == []
    assert misfit({"a": torch.zeros(2)}, {"a": torch.zeros(2)}) is None
