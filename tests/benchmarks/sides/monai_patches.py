"""A round: patches from MONAI's PersistentDataset and DataLoader, transforms drawn as often and as wide as Pansite's.

The same kinds but for the elastic deformation, whose smoothing alone would take MONAI longer than all the rest. Labels
are kept in one byte, and volumes in the cache are as they were when read, oriented and windowed.
"""

from __future__ import annotations

from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from monai import transforms as mt
from monai.data import DataLoader, PersistentDataset
from served import arguments, serve

told = arguments()
torch.set_num_threads(1)
raw, patch = Path(told["raw"]), tuple(told["patch"])
both, image = ("image", "label"), "image"
sure = [
    mt.LoadImaged(both),
    mt.EnsureChannelFirstd(both),
    mt.Orientationd(both, axcodes="RAS", labels=None),
    mt.ScaleIntensityRanged(image, -100, 240, 0, 1, clip=True),
    mt.CastToTyped("label", np.uint8),
]
drawn = [
    mt.RandCropByPosNegLabeld(both, "label", patch, pos=2, neg=1, num_samples=1),
    mt.RandAffined(
        both, prob=0.36, rotate_range=[np.pi / 6] * 3, scale_range=[(-0.3, 0.4)] * 3, mode=("bilinear", "nearest"),
        padding_mode="border",
    ),
    mt.RandGaussianNoised(image, prob=0.15, std=0.1),
    mt.RandGaussianSmoothd(image, (0.5, 1.5), (0.5, 1.5), (0.5, 1.5), prob=0.15),
    mt.RandScaleIntensityd(image, (-0.3, 0.3), prob=0.15),
    mt.RandScaleIntensityFixedMeand(image, prob=0.15, factors=(-0.35, 0.5)),
    mt.RandSimulateLowResolutiond(image, prob=0.15, zoom_range=(0.5, 1.0)),
    mt.RandAdjustContrastd(image, prob=0.15, gamma=(0.7, 1.5)),
]  # fmt: skip
files = [
    {"image": str(raw / "imagesTr" / f"{name}_0000.nii.gz"), "label": str(raw / "labelsTr" / f"{name}.nii.gz")}
    for name in told["names"][:-1]
]
dataset = PersistentDataset(files * 50, mt.Compose([*sure, *drawn]), cache_dir=Path(told["folder"]))
for place in range(len(files)):
    dataset[place]  # fills the cache
loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=told["workers"], persistent_workers=True)
batches = chain.from_iterable(repeat(loader))


def work() -> list[int]:
    """Take batches of two."""
    for _ in range(told["batches"]):
        batch = next(batches)
    return list(batch["image"].shape)


serve(work)
