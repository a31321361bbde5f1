"""The phantom sites that are built in: procedural CTs, made when a case is first prepared and kept on disk.

They are real NIfTI files and go through the very same path as a user's. See :mod:`datamodules.phantom`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from datamodules.layouts.site import LAYOUTS, About, Case, SiteConfig, checked_cases
from datamodules.phantom_settings import SiteSettings, builtin_site

CACHE = "~/.cache/pansite/phantoms"


@LAYOUTS.register("phantom", target="datamodules.layouts.phantom:cases")
@dataclass(kw_only=True)
class PhantomSite(SiteConfig):
    """A phantom site; ``root`` is where its files are kept, by default ``~/.cache/pansite/phantoms``.

    Attributes:
        site: the built-in site: ``source``, the tests ``north``, ``east``, ``south``, ``west``, or for choosing
            methods ``hill`` and ``lake``.
        cases: how many of its cases; null takes the built-in number, a higher one draws more of them.
        seed: other patients than the built-in ones.
        factors: physical factors (phase, noise, slice_thickness, habitus, lesions, field_of_view) that are set to
            one value from 0 to 1 in all cases instead of the site's own ranges.
        labels: pancreas and lesion, merged: the lesion is in the organ.
    """

    about: ClassVar[About] = About("Pansite's phantoms", "none: they are built in", licence="Apache-2.0")

    layout: str = "phantom"
    site: str = "source"
    cases: int | None = field(default=None, metadata={"selects": True})
    seed: int | None = None
    factors: dict[str, float] = field(default_factory=dict)
    labels: list[int] = field(default_factory=lambda: [1, 2])

    def settings(self) -> SiteSettings:
        """The built-in site with this one's alterations.

        Raises:
            UsageError: no such site or factor, or a value is out of its range.
        """
        return builtin_site(self.site).altered(self.cases, self.seed, self.factors)

    def folder(self) -> Path:
        """Where the site's files are kept: another folder for every other setting or generator."""
        settings = self.settings()
        return Path(self.root or CACHE).expanduser() / f"{settings.name}-{settings.key()}"

    def materialise(self, case: Case) -> None:
        """Write the case's image and label unless they are there; both appear at once.

        Raises:
            UsageError: the folder can't be written to.
        """
        if case.image.parent.is_dir():
            return
        from datamodules.phantom import write_case

        write_case(self.settings(), int(case.case.rpartition("_")[2]), case.image.parent)


def cases(site: PhantomSite) -> list[Case]:
    """The site's cases; their files are there once :meth:`PhantomSite.materialise` has made them.

    Raises:
        UsageError: no such site or factor, or a value is out of its range.
    """
    settings, folder = site.settings(), site.folder()
    names = [settings.case_id(index) for index in range(settings.cases)]
    return checked_cases(
        site,
        [
            Case(case=name, patient=name, image=folder / name / "image.nii.gz", label=folder / name / "label.nii.gz")
            for name in names
        ],
    )
