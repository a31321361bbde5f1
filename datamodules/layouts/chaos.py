"""CHAOS labels liver, kidneys and spleen, and no pancreas: it is refused with that sentence.

Kavur et al., Medical Image Analysis 69:101950 (2021), https://doi.org/10.1016/j.media.2020.101950; CC BY-NC-SA 4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

from datamodules.errors import UsageError
from datamodules.layouts.files import inner
from datamodules.layouts.site import LAYOUTS, About, SiteConfig

WAYS = ("Train_Sets", "CHAOS_Train_Sets/Train_Sets")


@LAYOUTS.register("chaos", target="datamodules.layouts.chaos:cases")
@dataclass(kw_only=True)
class CHAOSSite(SiteConfig):
    """CHAOS: refused, it labels no pancreas."""

    about: ClassVar[About] = About(
        title="CHAOS",
        folder="refused: no pancreas is labelled in it",
        licence="CC BY-NC-SA 4.0",
        citation="Kavur et al. 2021, https://doi.org/10.1016/j.media.2020.101950",
    )

    layout: str = "chaos"


def cases(site: CHAOSSite) -> NoReturn:
    """No case.

    Raises:
        UsageError: always.
    """
    raise UsageError(f"site {site.name!r}: CHAOS labels liver, kidneys and spleen and no pancreas: leave it out")


def evidence(root: Path) -> str | None:
    """Why a folder is this data set; None where it is not."""
    folder = inner(root, *WAYS, has="CT")
    if (folder / "CT").is_dir() and (folder / "MR").is_dir():
        return f"there are folders {folder / 'CT'} and {folder / 'MR'}"
    return None
