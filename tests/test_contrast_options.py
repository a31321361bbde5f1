"""Every form and structure of the contrast runs by override, through the real command, and records what it should."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Tiny

Command = Callable[..., tuple[int, str, str]]
PARCELS = {
    "both": {f"{third}_{shell}" for third in ("head", "body", "tail") for shell in ("core", "rim")},
    "axis": {"head", "body", "tail"},
    "shells": {"core", "rim"},
    "none": {"pancreas"},
}
RINGS = {"three": {"near", "mid", "far"}, "one": {"background"}}
OTHERS = (
    ("three", "mixed", "grad", "both"),
    ("one", "uniform", "detached", "clean"),
    ("three", "uncertain", "none", "both"),
    ("one", "mixed", "grad", "clean"),
)
"""Rings, sampling, gather and views that go round with the structures."""


def recorded(root: Path) -> list[dict[str, str]]:
    (metrics,) = root.rglob("metrics.csv")
    with metrics.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("form", ["asymmetric", "symmetric", "cohesion_separation"])
@pytest.mark.parametrize(("structure", "others"), list(zip(PARCELS, OTHERS, strict=True)))
def test_each_form_and_structure_trains_and_records_its_regions_and_parts(
    form: str, structure: str, others: tuple[str, ...], tiny: Tiny, pansite: Command, tmp_path: Path
) -> None:
    rings, sampling, gather, views = others
    options = {"form": form, "structure": structure, "rings": rings, "sampling": sampling, "gather": gather}
    options |= {"views": views, "fade": "0.5"}
    words = [f"model.contrastive.{key}={value}" for key, value in options.items()]
    code, _, err = pansite(
        "fit", tiny.file, *words, "trainer.max_steps=2", "trainer.validate_every=2", f"run.root={tmp_path}"
    )
    assert code == 0, err
    table = recorded(tmp_path)
    assert len(table) == 2
    columns = set(table[0])
    assert {c for c in columns if c.startswith("fill/")} == {f"fill/{r}" for r in PARCELS[structure] | RINGS[rings]}
    assert {c for c in columns if c.startswith("cosine/")} == {f"cosine/{r}" for r in RINGS[rings]}
    parts = {"contrastive/cohesion", "contrastive/separation"} if form == "cohesion_separation" else set()
    assert {c for c in columns if c.startswith("contrastive/")} == parts
    for row in table:
        assert 0 <= float(row["embedding/collapse"]) <= 1
        assert float(row["loss/contrastive"]) > 0
        assert float(row["grad_norm/contrastive"]) > 0
        assert all(float(row[part]) > 0 for part in parts)


@pytest.mark.parametrize(("part", "other"), [("cohesion", "separation"), ("separation", "cohesion")])
def test_one_part_alone_is_an_override(part: str, other: str, tiny: Tiny, pansite: Command, tmp_path: Path) -> None:
    code, _, err = pansite(
        "fit", tiny.file, "model.contrastive.form=cohesion_separation", f"model.contrastive.{other}=0",
        "trainer.max_steps=2", "trainer.validate_every=2", f"run.root={tmp_path}",
    )  # fmt: skip
    assert code == 0, err
    for row in recorded(tmp_path):
        assert float(row["loss/contrastive"]) == pytest.approx(float(row[f"contrastive/{part}"]), rel=1e-4)
        assert float(row[f"contrastive/{other}"]) > 0
