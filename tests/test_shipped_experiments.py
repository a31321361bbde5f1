"""Every experiment that is shipped runs through the real command, on data small enough for seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import experiments
from datamodules.layouts.phantom import PhantomSite, cases
from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]
SHIPPED = Path(experiments.__file__).parent
EXPERIMENTS = sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.glob("*.yaml"))

SMALL = (
    "data.spacing=[6, 6, 6]", "data.patch_size=[32, 32, 32]", "data.batch_size=2", "data.workers=0",
    "data.split.folds=3", "trainer.max_steps=2", "trainer.validate_every=2", "trainer.checkpoint_every=2",
    "trainer.log_every=1", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.precision=32",
    "model.network.filters=[4, 8, 16]", "trainer.progress_bar=false", "logging.wandb=disabled",
)  # fmt: skip
"""Overrides that make any experiment small and leave its method as it is."""

RIVALS = ("bigaug", "cutmix", "dsu", "gin", "mixstyle", "randconv", "skeleton_contrast", "slaug", "supervised_standard")
"""Of these only the training is their own: they are fitted and not evaluated once more."""


@pytest.fixture(scope="module")
def unpacked(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as PANSITE_DATA names it: a miniature Task07_Pancreas and a manifest, of phantoms."""
    home = tmp_path_factory.mktemp("unpacked")
    task, mine = home / "Task07_Pancreas", home / "mine"
    for folder in (task / "imagesTr", task / "labelsTr", mine):
        folder.mkdir(parents=True)
    source = PhantomSite(name="source", site="source", cases=6, root=str(tiny.phantoms))
    entries = []
    for number, case in enumerate(cases(source)):
        source.materialise(case)
        name = f"pancreas_{number:03d}.nii.gz"
        assert case.label is not None
        shutil.copy(case.image, task / "imagesTr" / name)
        shutil.copy(case.label, task / "labelsTr" / name)
        (task / "imagesTr" / f"._{name}").write_bytes(b"AppleDouble")
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    (task / "dataset.json").write_text(json.dumps({"name": "PANCREAS", "training": entries, "test": []}))
    held = PhantomSite(name="west", site="west", cases=1, root=str(tiny.phantoms))
    (case,) = cases(held)
    held.materialise(case)
    (mine / "cases.csv").write_text(f"case,image,label\nours,{case.image},{case.label}\n")
    return home


def test_every_base_is_part_of_a_shipped_experiment() -> None:
    reached: set[Path] = set()
    waiting = [SHIPPED / name for name in EXPERIMENTS]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        extended = yaml.safe_load(path.read_text()).get("extends", [])
        waiting += [path.parent / name for name in ([extended] if isinstance(extended, str) else extended)]
    assert set((SHIPPED / "bases").glob("*.yaml")) <= reached


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_shipped_experiment_runs(
    name: str, unpacked: Path, tiny: Tiny, pansite: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANSITE_DATA", str(unpacked))
    monkeypatch.chdir(tmp_path)
    few: list[str] = []
    if name.startswith("phantom"):
        root = tiny.phantoms
        few = ["data.source.cases=6", f"data.source.root={root}"]
        for site in ("north", "east", "south", "west"):
            few += [f"data.held_out.{site}.cases=1", f"data.held_out.{site}.root={root}"]
    words = (*SMALL, *few, f"data.store={tiny.home / 'store'}")
    model = yaml.safe_load((SHIPPED / name).read_text()).get("model", {})
    if first := Path(model.get("init", "")).name:
        assert pansite("fit", first, *words)[0] == 0
    if name.removeprefix("phantom_").removesuffix(".yaml") in RIVALS:
        # The small network ends at stride 4.
        few = ["model.skeleton.stride=4"] if "skeleton" in name else []
        code, _, err = pansite("fit", f"experiments/{name}", *words, *few)
        assert code == 0, err
        (rows,) = tmp_path.glob("runs/*/*/metrics.csv")
        assert "loss/segmentation" in rows.read_text().splitlines()[0]
        return
    code, out, err = pansite("run", f"experiments/{name}", *words)
    assert code == 0, err
    if model.get("segmentation", {}).get("weight") == 0:
        assert "nothing to evaluate" in out
        return
    report = Path(out.rpartition("report: ")[2].strip())
    assert report.is_relative_to(tmp_path / "runs" / Path(name).stem)
    assert report.stat().st_size > 10_000
