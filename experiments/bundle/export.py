"""``pansite export RUN… --output DIR``: the folder appears when it is whole and shown to give the same logits."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined

from callbacks.checkpoint_io import read_checkpoint
from datamodules import grids
from datamodules.atomic import atomic_folder, write_json, write_text
from datamodules.errors import UsageError
from experiments.bundle import parts
from experiments.bundle.configuration import about_source, inference, metadata, weights_files
from experiments.config import ExperimentConfig
from experiments.configuration import load_experiment
from experiments.console import say
from experiments.ensemble import Member, load_members
from experiments.run_folder import RunFolder
from lightning_modules import inference as sliding
from lightning_modules.inference import InferenceSettings
from lightning_modules.networks.plain import PlainNetwork, plain_network
from lightning_modules.stored import this_version

COPIED = (grids, sliding, parts)
"""Files that the bundle carries; they import one another alone."""
ROOMS = ("datamodules", "lightning_modules", "experiments", "callbacks")


def export(runs: Sequence[Path], output: Path, overrides: Sequence[str] = ()) -> int:
    """Write a run, or several whose mean is taken, as a MONAI bundle.

    Args:
        runs: their folders.
        output: the bundle's folder, which is not there yet.
        overrides: ``evaluation.…``, as which checkpoint and how the window slides.

    Raises:
        UsageError: no such run or checkpoint, a run that is only pretrained or given twice, runs that take images
            differently, an override that can't be taken, or something stands where the bundle is to come.
    """
    for word in overrides:
        if not word.startswith("evaluation."):
            raise UsageError(f"override {word!r}: export takes evaluation.… alone; the rest is what was trained.")
    if output.exists():
        raise UsageError(f"{output}: is there already; move it away, or give another --output.")
    members, _ = load_members(runs, overrides)
    _refuse_unlike(members)
    configs = [load_experiment(RunFolder.existing(member.run).config, list(overrides)).config for member in members]
    given, settings = members[0].module.preprocessing, members[0].settings
    networks = [_plain(member) for member in members]
    scores = _scores(RunFolder.existing(members[0].run)) if len(members) == 1 else {}
    described = metadata(configs, given, scores)
    with atomic_folder(output) as part:
        write_json(part / "configs" / "metadata.json", described)
        write_json(part / "configs" / "inference.json", inference(networks, given, settings))
        (part / "models").mkdir()
        for name, network in zip(weights_files(len(networks)), networks, strict=True):
            torch.save(network.weights, part / "models" / name)
        write_text(part / "scripts" / "__init__.py", "")
        for module_ in COPIED:
            write_text(part / "scripts" / f"{module_.__name__.rpartition('.')[2]}.py", _source(module_))
        told = _told(configs, members, networks, described, settings, scores)
        write_text(part / "docs" / "README.md", told)
        write_text(part / "docs" / "data_license.txt", "\n".join(dict.fromkeys(map(_data_licence, configs))))
        write_text(part / "LICENSE", _licence())
    for member, network in zip(members, networks, strict=True):
        say(f"{output}: MONAI's {network.name} of {member.checkpoint}; its logits are the run's")
    licences = dict.fromkeys(about_source(config).licence for config in configs)
    say(f"docs/README.md says how it is run; the data's licence: {'; '.join(licences)}")
    return 0


def _refuse_unlike(members: Sequence[Member]) -> None:
    """Refuse runs that a bundle can't have together, for it shows one image to all of its networks.

    Raises:
        UsageError: with the first thing in which they differ.
    """
    first = members[0]
    for other in members[1:]:
        theirs, ours = ({**asdict(m.module.preprocessing), **asdict(m.settings)} for m in (other, first))
        for name, value in ours.items():
            if theirs[name] != value:
                told = name.replace("_", " ")
                raise UsageError(
                    f"{other.run}: its {told} is {theirs[name]}, that of {first.run} {value}, and a bundle has one for "
                    f"all of its networks; {_way_out(name)}."
                )


def _way_out(name: str) -> str:
    if name in InferenceSettings.__dataclass_fields__:
        return f"give one as evaluation.{name}=…"
    return "export them apart, or let `pansite predict` take them together"


def _plain(member: Member) -> PlainNetwork:
    module = member.module
    return plain_network(module.config.network, module.network.state_dict(), module.preprocessing.patch_size)


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
    configs: Sequence[ExperimentConfig],
    members: Sequence[Member],
    networks: Sequence[PlainNetwork],
    described: dict[str, Any],
    settings: InferenceSettings,
    scores: dict[str, float],
) -> str:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, autoescape=False)
    template = files("experiments.bundle").joinpath("readme.md").read_text("utf-8")
    packages = described["required_packages_version"]
    return environment.from_string(template).render(
        name=configs[0].name,
        version=this_version(),
        sources=list(dict.fromkeys(f"{config.data.source.name}: {about_source(config).title}" for config in configs)),
        runs=[(member.run.name, _step(member.checkpoint)) for member in members],
        packages=", ".join(packages),
        packages_to_install=" ".join(packages),
        monai=described["monai_version"],
        overlap=settings.overlap,
        flips=str(settings.flips).lower(),
        smallest=f"{settings.smallest_piece:g}",
        networks=list(dict.fromkeys(network.name for network in networks)),
        weights=weights_files(len(networks)),
        scores=scores,
    )


def _step(checkpoint: Path) -> int:
    return int(read_checkpoint(checkpoint, mmap=True).get("global_step", 0))


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
