"""A round: patches from nnU-Net's own loader with its trainer's transforms by batchgeneratorsv2.

Without mirroring and deep supervision, which Pansite has not by default either, and with Pansite's share of patches
that hold pancreas.
"""

from __future__ import annotations

from pathlib import Path

import nnunet_plans
import numpy as np
import torch
from served import arguments, serve

told = arguments()
torch.set_num_threads(1)
scratch = Path(told["scratch"])
nnunet_plans.use(scratch)

from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter  # noqa: E402
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size  # noqa: E402
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader  # noqa: E402
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

patch, rotation = told["patch"], (-np.pi / 6, np.pi / 6)
plan = nnunet_plans.plans(told["spacing"][::-1], patch, [8, 16, 32])
folder = nnunet_plans.preprocess(scratch, Path(told["raw"]), told["names"], plan)
loader = nnUNetDataLoader(
    nnUNetDatasetBlosc2(str(folder), told["names"][:-1]),
    2,
    get_patch_size(patch, rotation, rotation, rotation, (0.85, 1.25)),
    patch,
    PlansManager(plan).get_label_manager(nnunet_plans.dataset()),
    oversample_foreground_percent=2 / 3,
    probabilistic_oversampling=True,
    transforms=nnUNetTrainer.get_training_transforms(patch, rotation, None, (), False, foreground_labels=[1]),
)
workers = told["workers"]
batches = NonDetMultiThreadedAugmenter(
    loader, None, num_processes=workers, num_cached=max(6, workers // 2), pin_memory=False, wait_time=0.002
)


def work() -> list[int]:
    """Take batches of two."""
    for _ in range(told["batches"]):
        batch = next(batches)
    return list(batch["data"].shape)


serve(work)
