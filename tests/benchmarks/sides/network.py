"""The network that both sides predict with: Pansite's backbone, the same weights from the same seed.

Its output is shifted so that one voxel in a hundred of soft tissue is called pancreas: what is written is a mask as a
trained network's, not noise.
"""

from __future__ import annotations

import torch
from torch import nn

from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.networks.dynunet import build_dynunet


def network(filters: list[int], patch: list[int]) -> nn.Module:
    """The backbone; a batch of images in [0, 1] to ``Features``."""
    built = build_dynunet(DynUNetConfig(filters=tuple(filters)), seed=0).eval()
    noise = 0.4 + 0.05 * torch.randn((1, 1, *patch), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = built(noise).logits
    level = logits.flatten().sort().values[int(0.99 * logits.numel())].item()
    (bias,) = (value for name, value in built.named_parameters() if value.shape == (1,) and name.endswith("bias"))
    with torch.no_grad():
        bias -= level
    return built
