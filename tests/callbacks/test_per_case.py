"""Each case is judged on its own voxels, once, and what a killed evaluation has finished is not computed again."""

from __future__ import annotations

import csv
import dataclasses
import json
import signal
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from callbacks.overlays import PLANES, write_overlay
from callbacks.per_case import PerCaseEvaluation
from callbacks.rows import Evaluation, Role, describe_checkpoint, finished, write_row
from callbacks.seen import Seen
from callbacks.summary import collect
from datamodules.batch import VolumeBatch
from datamodules.errors import UsageError
from datamodules.store import CaseRecord, StoredCase, write_case
from datamodules.structure import axis_coordinate, signed_distance
from datamodules.volumes import volume_loader
from experiments.report.overlays import read_slices
from lightning_modules.dual_ssl import VolumePrediction
from lightning_modules.metrics import CaseMetrics, case_metrics
from lightning_modules.metrics.record import DETAILS, THIRDS
from tests.callbacks.tiny import kill_now

SITES: dict[str, Role] = {"home": "source_test", "away": "held_out", "abroad": "held_out"}
NATIVE_SHAPE = (22, 26, 14)


def oblique() -> NDArray[np.float64]:
    """A left-handed grid, tilted by 10°, of 1.5 × 1.2 × 2.5 mm."""
    c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-c, s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([1.5, 1.2, 2.5])
    affine[:3, 3] = (20, -15, 100)
    return affine


def ball(shape: Sequence[int], affine: NDArray[np.float64], radius: float) -> NDArray[np.uint8]:
    """A ball around the middle of the native grid, in world coordinates."""
    centre = (oblique() @ np.array([*(np.array(NATIVE_SHAPE) - 1) / 2, 1]))[:3]
    world = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    return np.asarray(np.linalg.norm(world - centre, axis=-1) <= radius, dtype=np.uint8)


@pytest.fixture
def cases(tmp_path: Path) -> list[StoredCase]:
    """Two prepared cases of each site; the stored grid is canonical and finer than the oblique native one."""
    native = oblique()
    stored = np.diag([1.0, 1.0, 1.0, 1.0])
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in NATIVE_SHAPE])).reshape(3, -1).T
    world = corners @ native[:3, :3].T + native[:3, 3]
    stored[:3, 3] = world.min(axis=0)
    d, h, w = (int(n) for n in np.ceil(np.ptp(world, axis=0)) + 1)
    shape = (d, h, w)
    found = []
    for site in SITES:
        for number in range(2):
            name = f"c{number}"
            label_path = tmp_path / f"{site}_{name}.nii.gz"
            label = ball(NATIVE_SHAPE, native, radius=9 + number)
            nib.save(nib.Nifti1Image(label, native), label_path)
            record = CaseRecord(
                site=site, case=name, patient=name, shape=shape, spacing=(1.0, 1.0, 1.0),
                affine=stored.tolist(), native_shape=NATIVE_SHAPE, native_affine=native.tolist(),
                image_path="", label_path=str(label_path), labels=[1], digest=f"{site}{name}",
                fingerprint="", pancreas_volume_ml=0.0, warnings=[],
            )  # fmt: skip
            folder = tmp_path / "store" / f"{site}-{name}"
            folder.mkdir(parents=True)
            mask = ball(shape, stored, radius=9 + number)
            image = np.random.default_rng(number).integers(-100, 240, shape).astype(np.int16)
            distance, axis = signed_distance(mask, (1.0, 1.0, 1.0)), axis_coordinate(mask, stored, "pca")
            write_case(folder, record, image, mask, distance, axis, np.zeros((0, 4), np.int32))
            found.append(StoredCase(folder))
    return found


class Oracle(pl.LightningModule):
    """Predicts the stored label itself; of some cases a blank, the half at the head's end or two pieces of it."""

    def __init__(
        self,
        blank: Sequence[tuple[str, str]] = (),
        kill_at: int | None = None,
        half: Sequence[tuple[str, str]] = (),
        cut: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        self.blank, self.half, self.cut = set(blank), set(half), set(cut)
        self.kill_at, self.seen = kill_at, list[tuple[str, str]]()

    def test_step(self, batch: VolumeBatch, batch_idx: int) -> VolumePrediction:  # type: ignore[override]  # typed
        if self.kill_at == len(self.seen):
            kill_now()
        self.seen.append((batch.site, batch.case))
        probability = batch.label * (0.1 if (batch.site, batch.case) in self.blank else 0.9)
        if (batch.site, batch.case) in self.half:
            probability *= torch.from_numpy(StoredCase(Path(batch.folder)).axis() <= 127)
        if (batch.site, batch.case) in self.cut:
            middle = probability.shape[2] // 2
            probability[:, :, middle + 3 : middle + 6] = 0.1
        return VolumePrediction(probability)


def evaluation_of(tmp_path: Path, cases: Sequence[StoredCase], **changes: Any) -> Evaluation:
    settings: dict[str, Any] = {
        "folder": tmp_path / "evaluation",
        "checkpoint": {"name": "best.ckpt", "step": 7, "sha256": "ab"},
        "inference": {"overlap": 0.5, "flips": False, "smallest_piece": 0.0},
        "roles": SITES,
        "records": [case.record for case in cases],
        "excluded": {"away": {"broken": "it has no label"}},
    }
    return Evaluation(**{**settings, **changes})


def run(evaluation: Evaluation, cases: Sequence[StoredCase], module: Oracle) -> None:
    done = finished(evaluation)
    left = [case for case in cases if (case.record.site, case.record.case) not in done]
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[PerCaseEvaluation(evaluation)],
    )  # fmt: skip
    loader: DataLoader[VolumeBatch] = volume_loader(left, (-100.0, 240.0), 0, 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(many workers|LeafSpec|zero length|trainer.test).*")
        trainer.test(module, loader, verbose=False)


def table(evaluation: Evaluation) -> list[dict[str, str]]:
    with (evaluation.folder / "per_case.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(evaluation: Evaluation) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((evaluation.folder / "summary.json").read_text())
    return loaded


def test_rows_are_measured_on_the_native_grid(tmp_path: Path, cases: list[StoredCase]) -> None:
    evaluation = evaluation_of(tmp_path, cases, predictions=tmp_path / "predictions")
    run(evaluation, cases, Oracle())
    rows = table(evaluation)
    assert [(row["site"], row["case"]) for row in rows] == [(s, f"c{n}") for s in SITES for n in range(2)]
    assert list(rows[0])[:5] == ["site", "case", "dice", "nsd", "hd95"]
    for row in rows:
        reference = nib.load(tmp_path / f"{row['site']}_{row['case']}.nii.gz")
        predicted = nib.load(tmp_path / "predictions" / row["site"] / f"{row['case']}.nii.gz")
        assert predicted.shape == NATIVE_SHAPE
        assert predicted.get_data_dtype() == np.uint8
        np.testing.assert_allclose(predicted.affine, oblique(), atol=1e-5)
        expected = case_metrics(np.asarray(predicted.dataobj), np.asarray(reference.dataobj), (1.5, 1.2, 2.5))
        assert float(row["dice"]) == expected.dice > 0.95
        assert float(row["assd"]) == pytest.approx(expected.assd)
        assert float(row["reference_volume_ml"]) == pytest.approx(float(reference.get_fdata().sum()) * 4.5 / 1000)


def test_where_it_is_asked_for_the_larger_pieces_of_a_mask_are_measured_alone(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    dice = {}
    for smallest in (0, 1):
        settings = {"overlap": 0.5, "flips": False, "smallest_piece": smallest}
        evaluation = evaluation_of(tmp_path / str(smallest), cases, inference=settings)
        run(evaluation, cases, Oracle(cut=[("away", "c1")]))
        dice[smallest] = {(row["site"], row["case"]): float(row["dice"]) for row in table(evaluation)}
    both = dice[0].pop(("away", "c1"))
    assert both > dice[1].pop(("away", "c1")) > 0
    assert dice[0] == dice[1]


def test_the_summary_counts_failures_and_leaves_none_out(tmp_path: Path, cases: list[StoredCase]) -> None:
    evaluation = evaluation_of(tmp_path, cases, location_prior={"away": 0.3})
    run(evaluation, cases, Oracle(blank=[("away", "c1")]))
    found, rows = summary(evaluation), table(evaluation)
    away = found["sites"]["away"]
    diagonal = float(np.linalg.norm(np.array(NATIVE_SHAPE) * (1.5, 1.2, 2.5)))
    dices = [float(row["dice"]) for row in rows if row["site"] == "away"]
    assert dices[1] == 0
    assert away["n"] == 2
    assert (away["failures"], away["both_empty"], away["excluded"]) == (1, 0, 1)
    assert away["dice"]["mean"] == pytest.approx(np.mean(dices))
    assert away["dice"]["sd"] == pytest.approx(np.std(dices, ddof=1))
    distances = [float(row["hd95"]) for row in rows if row["site"] == "away"]
    assert distances[1] == pytest.approx(diagonal)
    assert away["hd95"]["mean"] == pytest.approx(np.mean(distances))
    means = {site: found["sites"][site]["dice"]["mean"] for site in SITES}
    assert found["held_out_macro"]["dice"] == pytest.approx((means["away"] + means["abroad"]) / 2)
    assert found["gap"]["dice"] == pytest.approx(means["home"] - found["held_out_macro"]["dice"])
    assert found["tolerance_mm"] == 2.0
    assert found["location_prior"] == {"away": 0.3}
    assert found["checkpoint"]["step"] == 7
    assert json.loads((evaluation.folder / "excluded.json").read_text()) == {"away": {"broken": "it has no label"}}
    assert [row["empty_prediction"] for row in rows if row["site"] == "away"] == ["false", "true"]


def test_where_a_case_is_missed_and_how_sure_the_model_is(tmp_path: Path, cases: list[StoredCase]) -> None:
    """The head's half of an organ is predicted, with 0.9, and nothing of another one."""
    evaluation = evaluation_of(tmp_path, cases)
    run(evaluation, cases, Oracle(blank=[("away", "c1")], half=[("away", "c0")]))
    rows = {(row["site"], row["case"]): row for row in table(evaluation)}
    values = {key: {name: float(row[name]) for name in DETAILS} for key, row in rows.items()}
    whole, half, none = values["home", "c0"], values["away", "c0"], values["away", "c1"]
    assert min(whole[name] for name in (*THIRDS, "band_dice")) > 0.9
    assert half["recall_head"] > 0.95
    assert 0.3 < half["recall_body"] < 0.8
    assert half["recall_tail"] < 0.05
    assert half["relative_volume_error"] == pytest.approx(-0.5, abs=0.06)
    assert half["volume_error_ml"] == pytest.approx(
        float(rows["away", "c0"]["volume_ml"]) - float(rows["away", "c0"]["reference_volume_ml"])
    )
    assert [none[name] for name in (*THIRDS, "band_dice", "relative_volume_error")] == [0, 0, 0, 0, -1]
    # 0.9 where it is right always, 0 elsewhere; of the half that it misses it is sure; 0.1 where it sees nothing.
    case = next(case for case in cases if (case.record.site, case.record.case) == ("away", "c0"))
    near, inside = (case.distance() <= 1500).sum(), (case.label() > 0).sum()
    missed = inside - (case.label() * (case.axis() <= 127)).sum()
    assert whole["ece"] == pytest.approx(0.1 * inside / near, rel=1e-5)
    assert half["ece"] == pytest.approx((0.1 * (inside - missed) + missed) / near, rel=1e-5)
    entropy = -(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1))
    assert [whole["uncertainty"], half["uncertainty"], none["uncertainty"]] == pytest.approx([entropy, entropy, 1])


def test_the_summary_tells_whether_uncertainty_ranks_the_errors(tmp_path: Path, cases: list[StoredCase]) -> None:
    evaluation = evaluation_of(tmp_path, cases)
    dices = {("away", "c0"): 0.9, ("away", "c1"): 0.8, ("abroad", "c0"): 0.5, ("abroad", "c1"): 0.6}
    for case in cases:
        key = case.record.site, case.record.case
        one = CaseMetrics(dices.get(key, 0.1), 1, 0, 0, 1, 1, 1, 1, empty_prediction=False, empty_reference=False)
        # Of the held-out cases two neighbours change places; the source's do not count.
        sure = {0.9: 0.1, 0.8: 0.3, 0.5: 0.4, 0.6: 0.5}.get(one.dice, 0.0)
        write_row(evaluation, case.record, dataclasses.replace(one, uncertainty=sure, recall_tail=None))
    found = collect(evaluation)
    assert found["uncertainty_and_error"] == {"spearman": pytest.approx(0.8), "n": 4}
    assert found["sites"]["away"]["uncertainty_and_error"] == {"spearman": None, "n": 2}
    assert found["sites"]["away"]["uncertainty"]["mean"] == pytest.approx(0.2)
    assert found["held_out_macro"]["uncertainty"] == pytest.approx((0.2 + 0.45) / 2)
    # What no case has is an empty cell and no mean, not 0.
    assert found["sites"]["away"]["recall_tail"] == {"mean": None, "sd": None, "median": None}
    assert "recall_tail" not in found["held_out_macro"]
    assert {row["recall_tail"] for row in table(evaluation)} == {""}
    assert found["voxel_edges_mm"] == [1.2, 2.5]
    assert found["training_spacing_mm"] == [1, 1, 1]


def test_rows_of_an_earlier_version_are_measured_anew_and_are_no_new_look(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    evaluation = evaluation_of(tmp_path, cases)
    run(evaluation, cases, Oracle())
    path = evaluation.row_path("away", "c0")
    row = json.loads(path.read_text())
    row["metrics"] = {name: value for name, value in row["metrics"].items() if name not in DETAILS}
    path.write_text(json.dumps({**row, "key": evaluation.look}))  # what was the key before there were details
    rest = Oracle()
    run(evaluation, cases, rest)
    assert rest.seen == [("away", "c0")]
    assert all(row[name] for row in table(evaluation) for name in DETAILS)


def test_a_killed_evaluation_goes_on_and_ends_the_same(
    tmp_path: Path, cases: list[StoredCase], in_child: Callable[[Callable[[], Any]], int]
) -> None:
    evaluation = evaluation_of(tmp_path, cases)
    assert in_child(lambda: run(evaluation, cases, Oracle(kill_at=3))) == -signal.SIGKILL
    assert len(finished(evaluation)) == 3
    assert not (evaluation.folder / "summary.json").exists()
    (evaluation.row_path("home", "c1")).write_text('{"site": "home", "cas')  # as a lesser writer would leave it
    rest = Oracle()
    run(evaluation, cases, rest)
    assert rest.seen == [("home", "c1"), ("away", "c1"), ("abroad", "c0"), ("abroad", "c1")]
    untouched = evaluation_of(tmp_path, cases, folder=tmp_path / "untouched")
    run(untouched, cases, Oracle())
    for name in ("per_case.csv", "summary.json"):
        assert (evaluation.folder / name).read_bytes() == (untouched.folder / name).read_bytes()


def test_stale_rows_are_computed_again(tmp_path: Path, cases: list[StoredCase]) -> None:
    first = evaluation_of(tmp_path, cases)
    run(first, cases, Oracle())
    everything = {(case.record.site, case.record.case) for case in cases}
    assert finished(first) == everything
    assert finished(dataclasses.replace(first, excluded={}, location_prior={"home": 1.0})) == everything
    other = {"name": "best.ckpt", "step": 7, "sha256": "cd"}
    assert finished(dataclasses.replace(first, checkpoint=other)) == set()
    assert finished(dataclasses.replace(first, inference={"overlap": 0.25, "flips": False})) == set()
    assert finished(dataclasses.replace(first, tolerance=1.0)) == set()
    relabelled = [dataclasses.replace(cases[0].record, digest="new"), *(case.record for case in cases[1:])]
    assert finished(dataclasses.replace(first, records=relabelled)) == everything - {("home", "c0")}

    wanted = dataclasses.replace(first, predictions=tmp_path / "predictions")
    assert finished(wanted) == set(), "predictions are asked for and not there"
    run(wanted, cases, Oracle())
    assert finished(wanted) == everything
    (tmp_path / "predictions" / "away" / "c0.nii.gz").unlink()
    assert finished(wanted) == everything - {("away", "c0")}


def test_nothing_left_still_writes_the_summary(tmp_path: Path, cases: list[StoredCase]) -> None:
    """The trap: Lightning skips the hooks of an empty loop, on one rank of several too."""
    evaluation = evaluation_of(tmp_path, cases)
    run(evaluation, cases, Oracle())
    expected = summary(evaluation)
    (evaluation.folder / "summary.json").unlink()
    idle = Oracle()
    run(evaluation, cases, idle)
    assert idle.seen == []
    assert summary(evaluation) == expected


class Shares(pl.LightningDataModule):
    """Each rank's share of the cases, as :class:`HeldOutDataModule` hands it out."""

    def __init__(self, cases: Sequence[StoredCase]) -> None:
        super().__init__()
        self.cases = list(cases)
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def test_dataloader(self) -> DataLoader[VolumeBatch]:
        assert self.trainer is not None
        return volume_loader(self.cases, (-100.0, 240.0), self.trainer.global_rank, self.trainer.world_size)


@pytest.mark.parametrize("count", [1, 5])
def test_two_ranks_write_the_rows_of_one(tmp_path: Path, cases: list[StoredCase], count: int) -> None:
    """An odd number of cases, and a rank that has none: no case twice, none missing, no hang."""
    alone = evaluation_of(tmp_path, cases[:count], folder=tmp_path / "alone")
    run(alone, cases[:count], Oracle())
    together = evaluation_of(tmp_path, cases[:count])
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", use_distributed_sampler=False, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[PerCaseEvaluation(together)],
    )  # fmt: skip
    trainer.test(Oracle(), datamodule=Shares(cases[:count]), verbose=False)
    for name in ("per_case.csv", "summary.json"):
        assert (together.folder / name).read_bytes() == (alone.folder / name).read_bytes()


def test_a_table_with_a_hole_is_refused(tmp_path: Path, cases: list[StoredCase]) -> None:
    evaluation = evaluation_of(tmp_path, cases)
    one = CaseMetrics(1, 1, 0, 0, 1, 1, 1, 1, empty_prediction=False, empty_reference=False)
    for case in cases[:5]:
        write_row(evaluation, case.record, one)
    with pytest.raises(UsageError, match=r"1 of 6 cases have not been evaluated \(abroad/c1\)"):
        collect(evaluation)
    assert not (evaluation.folder / "per_case.csv").exists()


def test_a_site_of_one_case_and_a_site_of_none(tmp_path: Path, cases: list[StoredCase]) -> None:
    evaluation = evaluation_of(tmp_path, cases[:1])
    run(evaluation, cases[:1], Oracle())
    found = summary(evaluation)
    assert found["sites"]["home"]["dice"]["sd"] is None
    assert found["sites"]["away"]["dice"] == {"mean": None, "sd": None, "median": None}
    assert found["held_out_macro"] == found["gap"] == {}


def test_overlays_show_the_case_as_radiologists_look_at_it(tmp_path: Path, cases: list[StoredCase]) -> None:
    evaluation = evaluation_of(tmp_path, cases)
    run(evaluation, cases, Oracle(blank=[("away", "c0")]))
    for case in cases:
        path = evaluation.overlay_path(case.record.site, case.record.case)
        assert path.stat().st_size < 60_000
        slices = {each.plane: each for each in read_slices(path)}
        label, image = case.label(), case.image()
        for plane, axis in PLANES.items():
            counts = label.sum(axis=tuple(a for a in range(3) if a != axis))
            cut = np.flip(label.take(counts.argmax(), axis)).T
            grey = np.flip(image.take(counts.argmax(), axis)).T
            assert slices[plane].label.sum() == counts.max()
            np.testing.assert_array_equal(slices[plane].label, cut)
            assert np.abs(slices[plane].image / 255 - (grey + 100.0) / 340).max() < 0.03
            assert slices[plane].aspect == 1
            blank = (case.record.site, case.record.case) == ("away", "c0")
            assert slices[plane].prediction.any() != blank


def test_overlays_of_a_large_noisy_volume_stay_small(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    shape = (400, 400, 60)
    label = np.zeros(shape, bool)
    label[50:350, 150:250, 20:40] = True
    image = generator.normal(0.5, 0.05, shape).astype(np.float32)
    write_overlay(tmp_path / "o.npz", Seen(image, label, generator.random(shape, np.float32) * label, (0.8, 0.8, 2.5)))
    assert (tmp_path / "o.npz").stat().st_size < 60_000
    axial, coronal, _ = read_slices(tmp_path / "o.npz")
    assert axial.aspect == 1
    assert coronal.aspect == pytest.approx(2.5 / 0.8)
    assert axial.image.shape == axial.uncertainty.shape


def test_a_checkpoint_is_described_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {}, "global_step": 12}, path)
    first = describe_checkpoint(path)
    assert (first["name"], first["step"]) == ("best.ckpt", 12)
    torch.save({"state_dict": {}, "global_step": 12, "x": 1}, path)
    assert describe_checkpoint(path)["sha256"] != first["sha256"]
