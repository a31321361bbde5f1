"""A round: a CT's file to a mask on its own grid by nnU-Net's predictor, in one process.

Its network is Pansite's: what nnU-Net has normalised comes back to [0, 1], axes to Pansite's order, and background is a
logit of 0, so that its softmax is Pansite's sigmoid.
"""

from __future__ import annotations

from pathlib import Path

import nnunet_plans
import torch
from network import network
from served import arguments, serve
from torch import Tensor, nn

told = arguments()
torch.set_num_threads(told["threads"])
nnunet_plans.use(Path(told["scratch"]))

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

plan = nnunet_plans.plans(told["spacing"][::-1], told["patch"], told["filters"])
intensities = plan["foreground_intensity_properties_per_channel"]["0"]


class Same(nn.Module):
    """The network of both sides in nnU-Net's clothes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network(told["filters"], told["patch"], told["image"])

    def forward(self, normalised: Tensor) -> Tensor:
        """Logits of background and pancreas, B×2×D×H×W."""
        hu = normalised * intensities["std"] + intensities["mean"]
        logits = self.network(((hu + 100) / 340).clamp(0, 1).transpose(2, 4).contiguous()).logits.transpose(2, 4)
        return torch.cat([torch.zeros_like(logits), logits], 1)


same = Same().eval()
predictor = nnUNetPredictor(
    tile_step_size=0.5, use_gaussian=True, use_mirroring=False, perform_everything_on_device=False,
    device=torch.device("cpu"), verbose=False, allow_tqdm=False,
)  # fmt: skip
manager = PlansManager(plan)
predictor.manual_initialization(
    same, manager, manager.get_configuration("3d_fullres"), [same.state_dict()], nnunet_plans.dataset(), "none", None
)


def work() -> None:
    """Predict and write."""
    predictor.predict_from_files_sequential([[told["image"]]], [told["mask"]], save_probabilities=False)


serve(work)
