"""A round: a CT's file to a mask on its own grid, as ``pansite predict`` does it."""

from __future__ import annotations

from pathlib import Path

import torch
from network import network
from served import arguments, serve

from datamodules.layouts.site import Case
from datamodules.native import write_native
from experiments.ensemble import Member, predict_case
from lightning_modules.config import ContrastiveConfig, ModelConfig, RestorationConfig
from lightning_modules.dual_ssl import DualSSLModule, InferenceSettings, Preprocessing
from lightning_modules.networks.config import DynUNetConfig

told = arguments()
torch.set_num_threads(told["threads"])
model = ModelConfig(
    network=DynUNetConfig(filters=tuple(told["filters"])),
    contrastive=ContrastiveConfig(weight=0.0),
    restoration=RestorationConfig(weight=0.0),
)
module = DualSSLModule(model, Preprocessing(tuple(told["spacing"]), (-100.0, 240.0), tuple(told["patch"]))).eval()
module.network.load_state_dict(network(told["filters"], told["patch"], told["image"]).state_dict())
member = Member(Path("none"), Path("none"), module, InferenceSettings(overlap=0.5), "none")


def work() -> int:
    """Predict and write; how many voxels were found."""
    prediction = predict_case([member], Case("case", "case", Path(told["image"]), None))
    write_native(Path(told["mask"]), prediction.label, prediction.record)
    return int(prediction.label.sum())


serve(work)
