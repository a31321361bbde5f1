"""What a bundle's ``metadata.json`` and ``inference.json`` say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from datamodules.layouts import LAYOUTS
from datamodules.layouts.site import About
from datamodules.store import HU_RANGE
from experiments.config import ExperimentConfig
from lightning_modules.config import Preprocessing
from lightning_modules.inference import THRESHOLD, InferenceSettings
from lightning_modules.networks.plain import PlainNetwork
from lightning_modules.stored import this_version

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""What `python -m monai.bundle verify_metadata` checks against."""
PACKAGES = ("SimpleITK", "fire", "nibabel", "pytorch-ignite", "scipy")
"""What the bundle needs beside MONAI; the first and the last for the grids, the others for MONAI's runner."""


def about_source(config: ExperimentConfig) -> About:
    """What is known of the data that a run was trained on."""
    about: About = LAYOUTS.config_class(config.data.source.layout).about
    return about


def metadata(configs: Sequence[ExperimentConfig], given: Preprocessing, scores: Mapping[str, float]) -> dict[str, Any]:
    """``metadata.json``.

    Args:
        configs: of the runs, one or more.
        given: what images go through.
        scores: mean Dice by site, as the run was evaluated.
    """
    low, high = given.window
    patch = {"num_channels": 1, "spatial_shape": list(given.patch_size), "dtype": "float32", "is_patch_data": True}
    kinds = dict.fromkeys(config.model.network.name for config in configs)
    sources = dict.fromkeys(config.data.source.name for config in configs)
    abouts = dict.fromkeys(about_source(config) for config in configs)
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by Pansite {this_version()}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {name: found for name in PACKAGES if (found := _installed(name))},
        "name": configs[0].name,
        "task": "Segmentation of the pancreas on CT",
        "description": (
            f"{', '.join(kinds)} trained on one site ({', '.join(sources)}) by Pansite {this_version()}"
            f"{f', the mean of {len(configs)} runs' if len(configs) > 1 else ''}; "
            f"voxels of {' × '.join(f'{edge:g}' for edge in given.spacing)} mm, HU {low:g} to {high:g}."
        ),
        "authors": "who trained the run, by Pansite",
        "copyright": "of the weights: see docs/data_license.txt; of the scripts: the Pansite developers, Apache-2.0",
        "data_source": "; ".join(p for about in abouts for p in (about.title, about.citation) if p != "–"),
        "data_type": "nibabel",
        "image_classes": "one channel, CT in HU",
        "label_classes": "0: background, 1: pancreas",
        "pred_classes": "0: background, 1: pancreas",
        "eval_metrics": {f"mean_dice_{site}": score for site, score in scores.items()},
        "intended_use": "Research. Not a medical device, and not for clinical decisions.",
        "references": [],
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image", "format": "hounsfield", "modality": "CT", **patch, "value_range": [0, 1],
                    "channel_def": {"0": f"HU {low:g} to {high:g}"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image", "format": "logits", **patch, "value_range": [], "channel_def": {"0": "pancreas"},
                }
            },
        },
    }  # fmt: skip


def weights_files(networks: int) -> list[str]:
    """Where the weights lie in ``models``."""
    return ["model.pt"] if networks == 1 else [f"model_{number}.pt" for number in range(networks)]


def inference(networks: Sequence[PlainNetwork], given: Preprocessing, settings: InferenceSettings) -> dict[str, Any]:
    """``inference.json``, for MONAI's own runner and, of one network, for whatever reads its usual names.

    Args:
        networks: MONAI's; of several the mean of their probabilities is taken.
        given: what images go through.
        settings: of the sliding window, and what is kept of the mask.
    """
    low, high = given.window
    parts = "scripts.parts"
    built, evaluator, predictions = _one(networks[0]) if len(networks) == 1 else _several(networks)
    return {
        "imports": ["$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "overlap": settings.overlap,
        "flips": settings.flips,
        "smallest_piece": settings.smallest_piece,
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        **built,
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader", "ensure_channel_first": True},
                {
                    "_target_": f"{parts}.ToTrainingGridd", "keys": "image", "spacing": list(given.spacing),
                    "hu_range": list(HU_RANGE),
                },
                {
                    "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": low, "a_max": high, "b_min": 0.0,
                    "b_max": 1.0, "clip": True,
                },
            ],
        },
        "datalist": {"_target_": f"{parts}.images", "folder": "@dataset_dir"},
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": f"{parts}.SlidingProbability", "window": list(given.patch_size), "overlap": "@overlap",
            "flips": "@flips",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": f"{parts}.ToNativeLabeld", "keys": predictions, "output": "pred", "image": "image",
                    "threshold": THRESHOLD, "smallest_piece": "@smallest_piece",
                },
                {
                    "_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "",
                    "output_dtype": "$numpy.uint8", "separate_folder": False, "resample": False,
                },
            ],
        },
        "evaluator": {
            **evaluator, "device": "@device", "val_data_loader": "@dataloader", "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


Part = dict[str, Any]


def _one(network: PlainNetwork) -> tuple[Part, Part, list[str]]:
    """What builds the network, what is particular of the evaluator, and the keys of what it predicts."""
    built = {
        "checkpoint": f"$@bundle_root + '/models/{weights_files(1)[0]}'",
        "network_def": {"_target_": network.name, **network.arguments},
        "network": _with_weights("@network_def", "@checkpoint"),
    }
    return built, {"_target_": "SupervisedEvaluator", "network": "@network"}, ["pred"]


def _several(networks: Sequence[PlainNetwork]) -> tuple[Part, Part, list[str]]:
    """The same of several."""
    keys = [f"pred_{number}" for number in range(len(networks))]
    built = {
        "checkpoints": [f"$@bundle_root + '/models/{file}'" for file in weights_files(len(networks))],
        "network_defs": [{"_target_": network.name, **network.arguments} for network in networks],
        "networks": [_with_weights(f"@network_defs::{n}", f"@checkpoints::{n}") for n in range(len(networks))],
    }
    return built, {"_target_": "EnsembleEvaluator", "networks": "@networks", "pred_keys": keys}, keys


def _with_weights(network: str, checkpoint: str) -> Part:
    return {
        "_target_": "scripts.parts.with_weights", "network": network, "checkpoint": checkpoint, "device": "@device",
    }  # fmt: skip


def _version(package: str) -> str:
    """Without what tells of the device that a package was built for."""
    return version(package).partition("+")[0]


def _installed(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError

    try:
        return _version(package)
    except PackageNotFoundError:
        return None
