"""Real images of one site of an experiment, each acquired anew by simulation; the source's name is its test split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchio as tio

from datamodules.config import DataConfig
from datamodules.errors import UsageError
from datamodules.held_out import HeldOutDataModule
from datamodules.native import native_label
from datamodules.split import Split
from datamodules.store import Spacing, StoredCase
from datamodules.volume_files import read_volume
from experiments.configuration.faults import did_you_mean
from experiments.ladder import simulation
from experiments.ladder.plan import SEED, Rung
from experiments.ladder.scans import Scan
from experiments.pages.words import count
from experiments.signals import SIGNALS

SOURCE = "source"
"""What the source may be called whatever its name is."""
OF_SOURCE = (
    "These are the source's test cases: where a method or a setting is chosen by this ladder, they are no test of it "
    "any more."
)
OF_HELD_OUT = "These are held-out cases: this ladder is a look at them, and the ledger holds it."


@dataclass(frozen=True)
class Opened:
    """A site of an experiment, prepared and sealed.

    Attributes:
        name: of the site.
        held_out: whether it is a held-out site; else these are the source's test cases.
        cases: its cases.
        data: the module that has found them.
    """

    name: str
    held_out: bool
    cases: list[StoredCase]
    data: HeldOutDataModule


class SiteScans:
    """A site's own images as a ladder's scans.

    Args:
        opened: the site.
        cases: those of its cases that are climbed with.
    """

    factors = simulation.FACTORS

    def __init__(self, opened: Opened, cases: Sequence[StoredCase]) -> None:
        self.name = "images_of_" + re.sub(r"[^\w.-]", "_", opened.name)
        which = f"of the held-out site {opened.name}" if opened.held_out else f"of the test split of {opened.name}"
        self.title = f"{count(len(cases), 'case')} {which}"
        self.cases = [case.record.case for case in cases]
        self.remarks = [OF_HELD_OUT if opened.held_out else OF_SOURCE]
        self._stored = {case.record.case: case for case in cases}
        self._last: tuple[str, Scan] | None = None

    def digest(self, case: str, rung: Rung) -> str:
        """A hash of the case's content and of what is simulated."""
        own = self._stored[case].record.digest
        return hashlib.sha256(f"{simulation.VERSION} {SEED} {own} {case} {rung.name}".encode()).hexdigest()

    def scan(self, case: str, rung: Rung) -> Scan:
        """Read a case and simulate an acquisition.

        Raises:
            CaseError: its files are not what they were when it was prepared.
        """
        if self._last is None or self._last[0] != case:
            self._last = None  # two whole CTs need not be in memory
            self._last = case, _read(self._stored[case])
        own = self._last[1]
        return replace(own, image=simulation.simulate(own.image, own.label, case, rung))


def open_site(data: DataConfig, split: Split, spacing: Spacing, word: str) -> Opened:
    """Bring the site that a word means into the store and look whether its scans are among the source's.

    Args:
        data: of a run.
        split: of a run.
        spacing: of its training, mm.
        word: a held-out site's name; the source's name, or ``source``, for the source's test cases.

    Raises:
        UsageError: there is no such site, it keeps no case, or a case of it is the source's (``data.overlap``).
    """
    held_out = word in data.held_out
    if not held_out and word not in (data.source.name, SOURCE):
        known = [data.source.name, *data.held_out]
        raise UsageError(f"--on: the run has no site {word!r}; {did_you_mean(word, known)}")
    if not held_out and not split.test:
        raise UsageError(f"--on: the run's split leaves {data.source.name} no test case to climb with.")
    alone = replace(data, held_out={word: data.held_out[word]} if held_out else {})
    module = HeldOutDataModule(alone, split, spacing)
    # It may take long, and what is prepared stays: a scheduler's notice need not wait for its end.
    with SIGNALS.at_once():
        module.prepare_data()
        module.setup()
    name = word if held_out else data.source.name
    return Opened(name, held_out, [case for case in module.cases if case.record.site == name], module)


def _read(case: StoredCase) -> Scan:
    voxels, grid = read_volume(Path(case.record.image_path))
    image = tio.ScalarImage(tensor=torch.from_numpy(voxels.astype(np.float32, order="C"))[None], affine=grid.affine)
    return Scan(image, native_label(case.record), grid.affine)
