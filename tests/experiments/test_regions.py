"""``python -m experiments.regions``: regions of a label of one's own, as training finds them, in a picture."""

from __future__ import annotations

import io
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from experiments.regions.__main__ import main
from experiments.regions.figure import COLOURS, draw, place
from experiments.regions.measure import Regions, measure
from lightning_modules.regions.structure import REGION_NAMES

ID = {name: i for i, name in enumerate(REGION_NAMES)}
PANCREAS = 7


def write_bar(folder: Path, axcodes: str = "RAS") -> tuple[Path, Path]:
    """A bar of pancreas from the patient's right to the left and upwards, in a body: label and CT, 2 mm."""
    x, y, z = np.meshgrid(*[np.arange(n) - n / 2 + 0.5 for n in (100, 70, 60)], indexing="ij")
    body = (x / 48) ** 2 + (y / 33) ** 2 < 1
    # RAS: the first axis grows to the patient's right; the head lies there, low.
    bar = (abs(x) < 30) & (abs(y) < 9) & (abs(z + 0.3 * x) < 9)
    label = np.where(bar, PANCREAS, np.where(body, 3, 0)).astype(np.uint8)
    hu = np.where(bar, 110, np.where(body, 40, -1000)).astype(np.int16)
    paths = folder / "label.nii.gz", folder / "ct.nii.gz"
    start, end = (nib.orientations.axcodes2ornt(tuple(codes)) for codes in ("RAS", axcodes))
    for path, voxels in zip(paths, (label, hu), strict=True):
        image = nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0]))
        nib.save(image.as_reoriented(nib.orientations.ornt_transform(start, end)), path)
    return paths


def centre(regions: Regions, name: str) -> np.ndarray:
    return np.argwhere(regions.cells == ID[name]).mean(0)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SAL"])
def test_the_head_lies_on_the_patients_right_however_the_file_is_turned(tmp_path: Path, axcodes: str) -> None:
    label, ct = write_bar(tmp_path, axcodes)
    found = measure(label, [PANCREAS], ct, (3.0, 3.0, 3.0), 2)
    head, body, tail = (centre(found, f"{third}_core") for third in ("head", "body", "tail"))
    assert head[0] > body[0] > tail[0]
    assert head[2] < body[2] < tail[2]
    assert found.cells.shape == found.distance.shape == tuple(size // 2 for size in found.image.shape)
    assert (found.bounds.rim, found.bounds.near, found.bounds.mid) == pytest.approx((6, 12, 24))
    for name, low, high in (("near", 0, 12), ("mid", 12, 24), ("far", 24, 100)):
        assert low < np.median(found.distance[found.cells == ID[name]]) < high
    # The CT is seen through its window, and the bar is the brightest.
    fine = found.image.reshape(*(n for d in found.cells.shape for n in (d, 2))).mean((1, 3, 5))
    assert fine[found.cells == ID["body_core"]].mean() == pytest.approx((110 + 100) / 340, abs=0.03)


def test_the_section_that_is_shown_holds_all_three_thirds_where_one_does() -> None:
    cells = np.full((5, 3, 6), ID["far"])
    cells[:, :, 1] = ID["head_rim"]  # larger, but of one third
    cells[:3, 1, 4] = [ID["tail_rim"], ID["body_core"], ID["head_core"]]
    assert place(cells, 2) == 4
    assert place(cells, 1) == 1


def test_the_command_draws_a_column_for_every_spacing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label, ct = write_bar(tmp_path)
    widths = []
    for number, words in enumerate((["--spacing", "3"], ["--spacing", "2", "3", "--image", str(ct)])):
        output = tmp_path / f"{number}.png"
        assert main([str(label), "--ids", str(PANCREAS), "--output", str(output), *words]) == 0
        assert capsys.readouterr().out == f"{output}\n"
        with Image.open(output) as picture:
            widths.append(picture.width)
            seen = {colour for _, colour in picture.convert("RGB").getcolors(1_000_000)}
        assert len(seen) > 50
    assert widths[1] > 1.7 * widths[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--ids", "5"], "label.nii.gz"),
        (["--ids", "7", "--stride", "0"], "--stride must be above 0"),
        (["--ids", "7", "--spacing", "6", "--stride", "8"], "model.contrastive.stride"),
        (["--ids", "7", "--image", "nowhere.nii.gz"], "nowhere.nii.gz"),
        (["--ids", "7", "--output", "/proc/regions.png"], "--output: /proc/regions.png can't be written ("),
    ],
)
def test_what_it_cannot_draw_it_refuses_in_a_sentence(
    tmp_path: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    label, _ = write_bar(tmp_path)
    output = tmp_path / "regions.png"
    assert main([str(label), "--output", str(output), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert not output.exists()


@pytest.mark.skipif(
    "PANSITE_TEST_DATA" not in os.environ, reason="PANSITE_TEST_DATA names no folder with real label maps"
)
def test_a_real_label_map_is_drawn_in_all_nine_regions() -> None:
    label = Path(os.environ["PANSITE_TEST_DATA"]) / "label_maps" / "s0328_multilabel_v2ids.nii.gz"
    found = measure(label, [PANCREAS], None, (3.0, 3.0, 3.0), 1)
    assert set(np.unique(found.cells)) == set(ID.values())
    with Image.open(io.BytesIO(draw([found], "credit"))) as picture:
        seen = {colour for _, colour in picture.convert("RGB").getcolors(1_000_000)}
    for name, colour in COLOURS.items():
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert min(abs(np.array(c) - wanted).max() for c in seen) < 12, name
