"""The layouts of sites, one file each: a config dataclass and the function that lists its cases.

Another layout is one more file here and its name in the import below.
"""

from datamodules.layouts import manifest, msd, phantom
from datamodules.layouts.site import LAYOUTS, Case, SiteConfig

__all__ = ["LAYOUTS", "Case", "SiteConfig", "manifest", "msd", "phantom"]
