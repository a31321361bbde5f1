"""``pansite export RUN --output DIR``: the folder appears when all of it is there and shown to give the same logits."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined

from callbacks.checkpoint_io import chosen, read_checkpoint
from datamodules import grids
from datamodules.atomic import atomic_folder, write_json, write_text
from datamodules.errors import UsageError
from experiments.bundle import parts
from experiments.bundle.configuration import about_source, inference, metadata
from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.console import say
from experiments.evaluation import inference_settings, refuse_pretrained
from experiments.run_folder import RunFolder
from lightning_modules import inference as sliding
from lightning_modules.dual_ssl import load_module
from lightning_modules.inference import InferenceSettings
from lightning_modules.networks.plain import PlainNetwork, plain_network
from lightning_modules.stored import this_version

COPIED = (grids, sliding, parts)
"""Files that the bundle carries; they import one another alone."""
ROOMS = ("datamodules", "lightning_modules", "experiments", "callbacks")


def export(run_folder: Path, output: Path, overrides: Sequence[str] = ()) -> int:
    """Write a run as a MONAI bundle.

    Args:
        run_folder: the run.
        output: the bundle's folder, which is not there yet.
        overrides: ``evaluation.…``, as which checkpoint and how the window slides.

    Raises:
        UsageError: no such run or checkpoint, a run that is only pretrained, an override that can't be taken, or
            something stands where the bundle is to come.
    """
    for word in overrides:
        if not word.startswith("evaluation."):
            raise UsageError(f"override {word!r}: export takes evaluation.… alone; the rest is what was trained.")
    if output.exists():
        raise UsageError(f"{output}: is there already; move it away, or give another --output.")
    run = RunFolder.existing(run_folder)
    config = load_experiment(run.config, list(overrides)).config
    refuse_pretrained(config, run)
    checkpoint = chosen(run.checkpoints, config.evaluation.checkpoint)
    module = load_module(checkpoint)
    given = module.preprocessing
    network = plain_network(module.config.network, module.network.state_dict(), given.patch_size)
    settings = inference_settings(config.evaluation)
    described = metadata(config, given, scores := _scores(run))
    with atomic_folder(output) as part:
        write_json(part / "configs" / "metadata.json", described)
        write_json(part / "configs" / "inference.json", inference(network, given, settings))
        (part / "models").mkdir()
        torch.save(network.weights, part / "models" / "model.pt")
        write_text(part / "scripts" / "__init__.py", "")
        for module_ in COPIED:
            write_text(part / "scripts" / f"{module_.__name__.rpartition('.')[2]}.py", _source(module_))
        step = int(read_checkpoint(checkpoint, mmap=True).get("global_step", 0))
        told = _told(config, run, network, described, settings, step, scores)
        write_text(part / "docs" / "README.md", told)
        write_text(part / "docs" / "data_license.txt", _data_licence(config))
        write_text(part / "LICENSE", _licence())
    say(f"{output}: MONAI's {network.name} of {checkpoint}; its logits are the run's")
    say(f"docs/README.md says how it is run; the data's licence: {about_source(config).licence}")
    return 0


def _source(module: ModuleType) -> str:
    """A file of ours as it goes into the bundle: its imports of the others lead there."""
    source = inspect.getsource(module)
    for other in COPIED:
        source = source.replace(
            f"from {other.__name__} import", f"from scripts.{other.__name__.rpartition('.')[2]} import"
        )
    if left := re.findall(rf"^\s*(?:from|import) (?:{'|'.join(ROOMS)})\b.*", source, flags=re.M):
        raise RuntimeError(f"{module.__name__} can't be handed over: {left[0].strip()}")
    return source


def _scores(run: RunFolder) -> dict[str, float]:
    """Mean Dice by site, where the run has been evaluated."""
    try:
        sites = json.loads((run.evaluation / "summary.json").read_text("utf-8"))["sites"]
        return {name: site["dice"]["mean"] for name, site in sites.items() if site["dice"]["mean"] is not None}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _told(
    config: ExperimentConfig,
    run: RunFolder,
    network: PlainNetwork,
    described: dict[str, Any],
    settings: InferenceSettings,
    step: int,
    scores: dict[str, float],
) -> str:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)
    template = files("experiments.bundle").joinpath("readme.md").read_text("utf-8")
    packages = described["required_packages_version"]
    return environment.from_string(template).render(
        name=config.name,
        version=this_version(),
        source=f"{config.data.source.name}: {about_source(config).title}",
        run=run.path.name,
        step=step,
        packages=", ".join(packages),
        packages_to_install=" ".join(packages),
        monai=described["monai_version"],
        overlap=settings.overlap,
        flips=str(settings.flips).lower(),
        smallest=f"{settings.smallest_piece:g}",
        network=network.name,
        scores=scores,
    )


def _licence() -> str:
    """Pansite's own, from beside its rooms or from where it was installed."""
    beside = Path(__file__).parents[2] / "LICENSE"
    if beside.is_file():
        return beside.read_text("utf-8")
    return distribution("pansite").read_text("licenses/LICENSE") or "Apache-2.0\n"


def _data_licence(config: ExperimentConfig) -> str:
    about = about_source(config)
    return (
        f"The weights were trained on: {about.title} (site {config.data.source.name}).\n"
        f"Licence of these data: {about.licence}\n"
        f"To be cited: {about.citation}\n"
        "Whether and how the weights may be handed on is for the holder of the data to say.\n"
    )
