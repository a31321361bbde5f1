"""An nnU-Net data set as its planner would have left it, so that nothing is planned and everything else is nnU-Net's.

``<scratch>/raw``, ``<scratch>/preprocessed`` and ``<scratch>/results`` are its three folders.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

DATASET = "Dataset001_Made"


def use(scratch: Path) -> None:
    """Tell nnU-Net its folders; before it is imported."""
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(scratch / name)
        (scratch / name).mkdir(parents=True, exist_ok=True)


def dataset() -> dict[str, Any]:
    """``dataset.json``."""
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "pancreas": 1},
        "file_ending": ".nii.gz",
        "numTraining": 4,
    }


def plans(spacing: list[float], patch: list[int], filters: list[int], batch: int = 2) -> dict[str, Any]:
    """``nnUNetPlans.json`` of one full-resolution configuration, its resampling as the default planner has it.

    Args:
        spacing: of the training grid, mm, in nnU-Net's order of axes (the last of a NIfTI file first).
        patch: in the same order.
        filters: channels of its U-Net at strides 1, 2, 4, ….
        batch: patches of a batch.
    """
    levels = len(filters)
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": filters,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * levels,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (levels - 1),
            "n_conv_per_stage": [2] * levels,
            "n_conv_per_stage_decoder": [2] * (levels - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch,
        "patch_size": patch,
        "median_image_size_in_voxels": [200.0, 512.0, 512.0],
        "spacing": spacing,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": architecture,
        "batch_dice": False,
    }
    intensities = {
        "max": 340.0, "mean": 90.0, "median": 92.0, "min": -200.0,
        "percentile_00_5": -100.0, "percentile_99_5": 240.0, "std": 60.0,
    }  # fmt: skip
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": [200, 512, 512],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
    }


def preprocess(scratch: Path, raw: Path, names: list[str], plan: dict[str, Any]) -> Path:
    """Let nnU-Net preprocess cases; the folder that its trainer reads.

    Args:
        scratch: given to :func:`use`.
        raw: with ``imagesTr`` and ``labelsTr``.
        names: of the cases.
        plan: of :func:`plans`.
    """
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    home = scratch / "preprocessed" / DATASET
    folder = home / "nnUNetPlans_3d_fullres"
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "nnUNetPlans.json": plan,
        "dataset.json": {**dataset(), "numTraining": len(names)},
        "dataset_fingerprint.json": {},
        "splits_final.json": [{"train": names, "val": names[-1:]}],
    }
    for name, content in files.items():
        (home / name).write_text(json.dumps(content), encoding="utf-8")
    manager = PlansManager(plan)
    for name in names:
        if not (folder / f"{name}.pkl").exists():
            DefaultPreprocessor(verbose=False).run_case_save(
                str(folder / name),
                [str(raw / "imagesTr" / f"{name}_0000.nii.gz")],
                str(raw / "labelsTr" / f"{name}.nii.gz"),
                manager,
                manager.get_configuration("3d_fullres"),
                dataset(),
            )
    return folder
