"""The sites that training never saw, and the source's own test cases, as whole volumes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from datamodules.batch import VolumeBatch
from datamodules.config import DataConfig
from datamodules.errors import UsageError
from datamodules.layouts import SiteConfig
from datamodules.preparation import Preparation
from datamodules.prepare import prepare_site
from datamodules.seal import Overlap, find_overlap, leave_out
from datamodules.split import Split
from datamodules.store import StoredCase
from datamodules.volumes import volume_loader

Role = Literal["source_test", "held_out"]


class HeldOutDataModule(pl.LightningDataModule):
    """Whole volumes to test on, on the source's grid and in the source's window.

    The source's test cases come first, under the source's name, so that the gap can be told; then every held-out
    site. Each case comes once, under any number of ranks.

    Args:
        data: the experiment's data.
        split: the run's split of the source.
        spacing: the training spacing, mm along D, H, W.
        done: (site, case) of those that are not wanted any more.

    Attributes:
        roles: what each site is, by name, in the order of the table.
        excluded: of each site, the cases that can't be used and why; set by :meth:`setup`, as is the following.
        overlap: scans that were found more than once among all sites.
        cases: the cases of all sites that are not done, in order.
        training_cases: the source's cases that the run was trained on, for what is told of the source alone.
        preparations: of each site, for what is told of the data.

    Raises:
        UsageError: a held-out site has the source's name.
    """

    excluded: dict[str, dict[str, str]]
    overlap: Overlap
    cases: list[StoredCase]
    training_cases: list[StoredCase]
    preparations: dict[str, Preparation]

    def __init__(
        self,
        data: DataConfig,
        split: Split,
        spacing: tuple[float, float, float],
        done: Collection[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        if data.source.name in data.held_out:
            raise UsageError(f"data.held_out.{data.source.name} has the name of the source: choose another one")
        self.data = data
        self.split = split
        self.spacing = spacing
        self.done = frozenset(done)
        self.roles: dict[str, Role] = {data.source.name: "source_test", **dict.fromkeys(data.held_out, "held_out")}

    def prepare_data(self) -> None:
        """Fill the store with what is missing in it."""
        for site in self.roles:
            self._prepare(site, processes=max(1, self.data.workers), progress=True)

    def setup(self, stage: str | None = None) -> None:
        """Open the prepared cases; on every rank.

        Raises:
            UsageError: a test case of the split is no longer among the source's usable cases, or a held-out case is
                among the source's (``data.overlap``).
        """
        if hasattr(self, "cases"):
            return
        preparations = {site: self._prepare(site, processes=1, progress=False) for site in self.roles}
        self.preparations = preparations
        self.overlap = self._sealed(preparations)
        self.excluded, cases = {}, []
        for site, preparation in preparations.items():
            self.excluded[site] = dict(preparation.excluded)
            cases += self._wanted(site, preparation)
            if self.roles[site] == "source_test":
                trained = set(self.split.train)
                self.training_cases = [case for case in preparation.kept if case.record.case in trained]
        self.cases = [case for case in cases if (case.record.site, case.record.case) not in self.done]

    def test_dataloader(self) -> DataLoader[VolumeBatch]:
        """This rank's share of the cases, unpadded."""
        rank, ranks = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        return volume_loader(self.cases, self.data.window, rank, ranks)

    def site_of(self, name: str) -> SiteConfig:
        """The configuration of a site by its name."""
        return self.data.source if self.roles[name] == "source_test" else replace(self.data.held_out[name], name=name)

    def _prepare(self, site: str, processes: int, progress: bool) -> Preparation:
        store = Path(self.data.store).expanduser()
        return prepare_site(
            self.site_of(site), self.spacing, self.data.structure, store, processes=processes, progress=progress
        )

    def _sealed(self, preparations: Mapping[str, Preparation]) -> Overlap:
        """The overlap of the sites, once what ``data.overlap`` asks for is done about it."""
        source = preparations[self.data.source.name]
        others = [site for site in preparations if self.roles[site] == "held_out"]
        overlap = find_overlap(source.kept, [case for site in others for case in preparations[site].kept])
        if self.data.overlap == "error":
            overlap.refuse()
        if self.data.overlap == "exclude":
            for site, reasons in overlap.excluded().items():
                leave_out(preparations[site], reasons)
        return overlap

    def _wanted(self, site: str, preparation: Preparation) -> list[StoredCase]:
        if self.roles[site] == "held_out":
            return list(preparation.kept)
        stored = {case.record.case: case for case in preparation.kept}
        if missing := [case for case in self.split.test if case not in stored]:
            reason = preparation.excluded.get(missing[0], "it is no longer there")
            raise UsageError(f"{site}: test case {missing[0]} of the run's split can't be used: {reason}")
        return [stored[case] for case in self.split.test]
