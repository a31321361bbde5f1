"""When is a cell the same cell? By all of its configuration that alters a number in the table, key by key.

A run's id needs the digests of its cases, hence the prepared data. What is counted here must be known at once and
without any data, so that cells which others have computed and committed are found: the keys of the run's identity, the
split, and how is evaluated, with each site by what it consists of. A phantom site is known by the key of its
generator's settings and content; another by its layout's options, wherever it lies, and by the ids, patients and file
sizes of its cases where it can be read here (see :func:`listing`). The id of the run stands in the cell's record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import UsageError
from datamodules.layouts import LAYOUTS, SiteConfig
from datamodules.layouts.phantom import PhantomSite
from experiments.config import ExperimentConfig
from experiments.identity import configured

Settings = dict[str, Any]
_EVALUATED = ("checkpoint", "overlap", "flips", "smallest_piece", "tolerance")
_OF_EVALUATION = ("evaluation.", "data.held_out.")


def settings(config: ExperimentConfig) -> Settings:
    """Every setting that decides a number, by dotted key, as JSON knows values."""
    data = config.data
    tree: Settings = {
        **configured(config),
        "data.spacing": data.spacing,
        "data.split": asdict(data.split) | {"file": _content(data.split.file)},
        "data.source": _site(data.source) | {"name": data.source.name},
        "data.held_out": {name: _site(site) for name, site in data.held_out.items()},
        # Where it lies differs from machine to machine.
        "model.init": None if config.model.init is None else Path(config.model.init).name,
        "evaluation": {key: getattr(config.evaluation, key) for key in _EVALUATED},
    }
    plain: Settings = json.loads(json.dumps(_flat(tree)))
    return plain


def of_training(all_settings: Mapping[str, Any]) -> Settings:
    """Those that decide what is trained."""
    return {key: value for key, value in all_settings.items() if not key.startswith(_OF_EVALUATION)}


def digest(values: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits of settings."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def altered(stored: Mapping[str, Any], current: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """What has become different of a cell's settings, in words; empty where nothing that counts has.

    Args:
        stored: of the cell when it was computed.
        current: of the configuration as it is now.
        defaults: of the keys of ``current`` that have one. A new option at its default does what was done before it
            was there, and makes no cell stale.
    """
    new = [key for key in current if key not in stored and (key not in defaults or current[key] != defaults[key])]
    gone = [key for key in stored if key not in current]
    changed = [key for key in stored if key in current and stored[key] != current[key]]
    words = [
        *(f"{key} was {_shown(stored[key])}, is {_shown(current[key])}" for key in changed),
        *(f"{key} is new and {_shown(current[key])}" for key in new),
        *(f"{key} was {_shown(stored[key])}, is no more" for key in gone),
    ]
    return "; ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def defaults(config: ExperimentConfig) -> Settings:
    """The default of every key of :func:`settings` that is a dataclass' field, of the components that are chosen."""
    plain: Settings = json.loads(json.dumps(_flat(_defaults(config)), default=str))
    return plain


def _defaults(section: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for own in fields(section):
        value = getattr(section, own.name)
        if is_dataclass(value):
            found[own.name] = _defaults(value)
        elif own.default is not MISSING:
            found[own.name] = own.default
        elif own.default_factory is not MISSING:
            found[own.name] = own.default_factory()
    return found


def listing(site: SiteConfig) -> str | None:
    """A hash of a site's cases as they are listed: ids, patients, sizes of files; None where it can't be read here.

    Of a phantom site it is None as well: its settings say all.
    """
    if isinstance(site, PhantomSite):
        return None
    try:
        cases = LAYOUTS.build(site)
    except (UsageError, OSError):
        return None
    listed = [[case.case, case.patient, _size(case.image), _size(case.label)] for case in cases]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def _size(path: Path | None) -> int | None:
    return path.stat().st_size if path is not None and path.is_file() else None


def _site(site: SiteConfig) -> Settings:
    if isinstance(site, PhantomSite):
        own = site.settings()
        return {"layout": site.layout, "labels": sorted(set(site.labels)), "cases": own.cases, "content": own.key()}
    values = {key: value for key, value in asdict(site).items() if key not in ("name", "root")}
    return values | {"labels": sorted(set(site.labels))}


def _content(file: str | None) -> str | None:
    if file is None:
        return None
    path = Path(file)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else path.name


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Settings:
    flat: Settings = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _shown(value: Any) -> str:
    return json.dumps(value)
