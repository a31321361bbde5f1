"""Which layout a folder is, told by the names in it alone, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

from datamodules.errors import UsageError
from datamodules.layouts import (
    abdomenatlas,
    abdomenct1k,
    amos,
    btcv,
    chaos,
    flare22,
    manifest,
    msd,
    nih,
    nnunet,
    panorama,
    pants,
    totalsegmentator,
    word,
)
from datamodules.layouts.site import LAYOUTS, About, Case, Flip, SiteConfig

EVIDENCE: dict[str, Callable[[Path], str | None]] = {
    "nih": nih.evidence,
    "msd": msd.evidence,
    "amos": amos.evidence,
    "btcv": btcv.evidence,
    "word": word.evidence,
    "flare22": flare22.evidence,
    "abdomenct1k": abdomenct1k.evidence,
    "totalsegmentator": totalsegmentator.evidence,
    "panorama": panorama.evidence,
    "abdomenatlas": abdomenatlas.evidence,
    "pants": pants.evidence,
    "nnunet": nnunet.evidence,
    "chaos": chaos.evidence,
    "manifest": manifest.evidence,
}


@LAYOUTS.register("auto", target="datamodules.layouts.auto:cases")
@dataclass(kw_only=True)
class AutoSite(SiteConfig):
    """Whichever of the others ``root`` is, told by the names of its files.

    Attributes:
        labels: empty for those of the layout.
    """

    about: ClassVar[About] = About("any of these", "any of these")

    layout: str = "auto"
    labels: list[int] = field(default_factory=list)
    label_flip: Flip | None = field(default=None, metadata={"selects": True})

    def settled(self) -> tuple[SiteConfig, list[str]]:
        """The site in the layout that its folder is.

        Raises:
            UsageError: it is none that is known, or may be several.
        """
        name, why = recognise(self)
        given = {f.name: getattr(self, f.name) for f in fields(SiteConfig) if f.name != "layout"}
        for key in ("labels", "label_flip"):
            if not given[key]:
                del given[key]
        site: SiteConfig = LAYOUTS.config_class(name)(**given)
        site, notes = site.settled()
        return site, [f"it is {site.about.title} (layout {name}): {why}", *notes]


def cases(site: AutoSite) -> list[Case]:
    """The cases in the layout that the folder is.

    Raises:
        UsageError: it is none that is known, or may be several; or what that layout says.
    """
    found: list[Case] = LAYOUTS.build(site.settled()[0])
    return found


def recognise(site: SiteConfig) -> tuple[str, str]:
    """The layout that a site's folder is, and why.

    Raises:
        UsageError: it is none that is known, or may be several.
    """
    root = site.path()
    found = {name: why for name, look in EVIDENCE.items() if (why := look(root)) is not None}
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        told = "; ".join(f"{name}, as {why}" for name, why in found.items())
        raise UsageError(
            f"site {site.name!r}: {root} may be several layouts: {told}; "
            f"give the folder of one of them, or its 'layout'"
        )
    looked = "; ".join(f"{LAYOUTS.config_class(name).about.folder} ({name})" for name in EVIDENCE if name != "chaos")
    raise UsageError(
        f"site {site.name!r}: {root} is no layout that is known; looked for {looked}; "
        f"give its 'layout', or list its cases in a manifest"
    )
