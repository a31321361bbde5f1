"""A round: a case from its files into Pansite's store, structure maps and all."""

from __future__ import annotations

import shutil
from pathlib import Path

from served import arguments, serve

from datamodules.layouts.manifest import ManifestSite, cases
from datamodules.prepare_case import Task, prepare_case

told = arguments()
site = ManifestSite(name="made", root=told["manifest"])
folder = Path(told["folder"])
(case,) = cases(site)


def work() -> None:
    """Prepare the case anew."""
    shutil.rmtree(folder, ignore_errors=True)
    outcome = prepare_case(Task(case, site, tuple(told["spacing"]), "geodesic", True, folder))
    assert outcome.reason is None, outcome.reason


serve(work)
