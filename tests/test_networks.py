"""Every backbone by the command: chosen by an override, trained, evaluated, and none of another one's keys kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import Tiny
from tests.test_whole_path import only_run

Command = Callable[..., tuple[int, str, str]]

NETWORKS = {
    "segresnet": ("{name: segresnet, init_filters: 4, blocks_down: [1, 1, 1], blocks_up: [1, 1]}", "[16, 16, 16]"),
    "swin_unetr": (
        "{name: swin_unetr, feature_size: 12, depths: [1, 1, 1, 1], num_heads: [1, 1, 2, 3], window_size: 4}",
        "[64, 32, 32]",
    ),
    "mednext": ("{name: mednext, init_filters: 4, deep_supervision: true}", "[32, 16, 16]"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_backbone_chosen_by_an_override_trains(name: str, tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    network, patch = NETWORKS[name]
    words = (tiny.file, f"run.root={tmp_path}", f"model.network={network}", f"data.patch_size={patch}")
    code, _, err = pansite("fit", *words, "trainer.max_steps=2", "trainer.validate_every=2")
    assert code == 0, err
    run = only_run(tmp_path)
    kept = yaml.safe_load((run / "config.yaml").read_text())["model"]["network"]
    assert kept["name"] == name
    # DynUNet's, which the file that is overridden chooses.
    assert "filters" not in kept
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert state["hyper_parameters"]["model"]["network"] == kept
    assert state["global_step"] == 2


@pytest.mark.slow
def test_a_backbone_runs_to_the_report_in_bf16_and_channels_last(tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    for name in ("segresnet", "mednext"):
        network, patch = NETWORKS[name]
        code, out, err = pansite(
            "run", tiny.file, f"run.root={tmp_path}", f"name={name}", f"model.network={network}",
            f"data.patch_size={patch}", "trainer.precision=bf16-mixed", "trainer.channels_last=true",
        )  # fmt: skip
        assert code == 0, err
        assert Path(out.rpartition("report: ")[2].strip()).is_file()


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ("segresnet", "each edge must be a multiple of 8, the total stride of segresnet, not [20, 16, 16]"),
        ("swin_unetr", "each edge must be a multiple of 32, the total stride of swin_unetr, not [20, 16, 16]"),
        ("mednext", "each edge must be a multiple of 16, the total stride of mednext, not [20, 16, 16]"),
        ("{name: segresnet, filters: [4, 8, 16]}", "the network 'segresnet' has no key 'filters'"),
        ("{name: segresnet, blocks_up: [1]}", "model.network.blocks_up: must name 1 block or more for each of the 3"),
        ("{name: swin_unetr, feature_size: 20}", "model.network.feature_size: must be a multiple of 12, not 20."),
        ("{name: mednext, kernel_size: 4}", "model.network.kernel_size: must be odd, not 4."),
        ("{name: mednext, size: XL}", "model.network.size: expects one of S, B, M, L, not 'XL'"),
    ],
)
def test_what_does_not_fit_is_told_before_any_data_is_read(
    network: str, sentence: str, tiny: Tiny, pansite: Command
) -> None:
    code, _, err = pansite("config", "check", tiny.file, f"model.network={network}", "data.patch_size=[20, 16, 16]")
    assert code == 2
    assert sentence in err
