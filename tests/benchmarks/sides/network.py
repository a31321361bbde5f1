"""The network that both sides predict with: Pansite's backbone, the same weights from the same seed.

Its output is shifted so that one voxel in five from the middle of the CT is called pancreas, fewer where windows are
blended: it writes a mask, and not only air.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import torch
from torch import nn

from lightning_modules.networks.config import DynUNetConfig
from lightning_modules.networks.dynunet import build_dynunet


def network(filters: list[int], patch: list[int], image: str) -> nn.Module:
    """The backbone; a batch of images in [0, 1] to ``Features``.

    Args:
        filters: its widths.
        patch: D, H, W of its input.
        image: the CT's file, with voxels half as wide as the training grid's along D and H.
    """
    built = build_dynunet(DynUNetConfig(filters=tuple(filters)), seed=0).eval()
    ct = nib.load(image)
    size = [2 * patch[0], 2 * patch[1], patch[2]]
    first = [(whole - n) // 2 for whole, n in zip(ct.shape, size, strict=True)]
    middle = np.asarray(ct.dataobj)[tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))]
    coarse = middle.reshape(patch[0], 2, patch[1], 2, patch[2]).mean((1, 3), dtype=np.float32)
    with torch.inference_mode():
        logits = built(torch.from_numpy(((coarse + 100) / 340).clip(0, 1))[None, None]).logits
    level = logits.flatten().sort().values[int(0.8 * logits.numel())].item()
    (bias,) = (value for name, value in built.named_parameters() if value.shape == (1,) and name.endswith("bias"))
    with torch.no_grad():
        bias -= level
    return built
