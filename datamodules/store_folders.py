"""Where the store keeps a site: folders named by the site and by hashes of all that alters what is stored."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.json_files import known_json
from datamodules.layouts import SiteConfig
from datamodules.store import Spacing

if TYPE_CHECKING:
    from datamodules.config import StructureConfig

VERSION = 1
"""Counts changes of this software that alter what is stored."""
REPORT = "preparation.json"


def site_home(site: SiteConfig, store: Path) -> Path:
    """The site's folder, for any preparation of it."""
    return store / f"{_safe(site.name)}-{_site_hash(site)}"


def settings_hash(spacing: Spacing, labelled: bool, structure: StructureConfig) -> str:
    """The name, in the site's folder, of that of one preparation.

    Args:
        spacing: of the stored grid along D, H, W, mm.
        labelled: whether labels are read.
        structure: how the spatial structure is computed.
    """
    return _hash({"version": VERSION, "spacing": spacing, "labelled": labelled, **asdict(structure)})


def site_folder(site: SiteConfig, spacing: Spacing, structure: StructureConfig, store: Path) -> Path | None:
    """Where the store holds a site that was prepared so, found without a look at the site itself.

    A site whose layout its folder tells (``auto``) stands there under the layout that it had, so that its root counts.

    Returns:
        The folder with the preparation report; None where the site is not prepared.
    """
    store = store.expanduser()
    wanted = settings_hash((float(spacing[0]), float(spacing[1]), float(spacing[2])), True, structure)
    if (own := site_home(site, store) / wanted / REPORT).is_file():
        return own.parent
    if site.root:
        for report in sorted(store.glob(f"{_safe(site.name)}-*/{wanted}/{REPORT}")):
            if known_json(report).get("root") == site.root:
                return report.parent
    return None


def _site_hash(site: SiteConfig) -> str:
    # How many of its cases are wanted alters none of them: experiments share what is prepared.
    settings = {f.name: getattr(site, f.name) for f in fields(site) if not f.metadata.get("selects")}
    if site.root:
        settings["root"] = str(Path(site.root).expanduser().absolute())
    return _hash(settings)


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _safe(name: str) -> str:
    """A name as part of a folder's name."""
    return re.sub(r"[^\w.-]", "_", name).lstrip(".")[:80] or "site"
