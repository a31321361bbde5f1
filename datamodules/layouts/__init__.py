"""The layouts of sites, one file each: a config dataclass and the function that lists its cases.

Another layout is one more file here, and its name in the import below and in :mod:`datamodules.layouts.auto`.
"""

from datamodules.layouts import (  # isort: skip - the order in which they are shown
    manifest,
    nih,
    msd,
    amos,
    btcv,
    word,
    flare22,
    abdomenct1k,
    totalsegmentator,
    panorama,
    abdomenatlas,
    pants,
    nnunet,
    chaos,
    phantom,
    auto,
)
from datamodules.layouts.site import LAYOUTS, Case, SiteConfig

__all__ = [
    "LAYOUTS", "Case", "SiteConfig", "abdomenatlas", "abdomenct1k", "amos", "auto", "btcv", "chaos", "flare22",
    "manifest", "msd", "nih", "nnunet", "panorama", "pants", "phantom", "totalsegmentator", "word",
]  # fmt: skip
