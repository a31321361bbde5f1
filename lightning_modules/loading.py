"""A trained module from its checkpoint, which executes nothing."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch

from datamodules.errors import UsageError
from lightning_modules.config import ModelConfig
from lightning_modules.dual_ssl import DualSSLModule
from lightning_modules.plain import unknown_names
from lightning_modules.stored import misfit, unknown_settings, writer


def load_module(path: Path) -> DualSSLModule:
    """The module of a checkpoint, on the CPU, ready to predict.

    Raises:
        UsageError: the file can't be read or is no checkpoint of this project.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such checkpoint")
    refused = f"{path}: this is not a checkpoint of a DualSSLModule"
    try:
        # Any other file would be taken for a pickle, and what that raises is anybody's guess.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True) if zipfile.is_zipfile(path) else None
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise UsageError(f"{refused}: it can't be loaded as plain weights ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict):
        raise UsageError(f"{refused}: it holds no training state")
    try:
        settings, weights = checkpoint["hyper_parameters"], checkpoint["state_dict"]
        unknown = [f"model.{name}" for name in unknown_names(ModelConfig, settings["model"])]
        if unknown:
            raise UsageError(f"{path}: does not fit: {unknown_settings(unknown)} ({writer(checkpoint)})")
        module = DualSSLModule(**settings)
        if reason := misfit(weights, module.state_dict()):
            raise UsageError(f"{path}: does not fit: {reason} ({writer(checkpoint)})")
        module.load_state_dict(weights)
        # Nothing is corrupted to predict, and a teacher in there would be a second network.
        module.corrupted_pass = None
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{refused} that this version can rebuild ({type(error).__name__}: {reason}; {writer(checkpoint)})"
        ) from error
    return module.eval()
