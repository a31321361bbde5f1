"""The report shows what was watched of the training: its last panel, the embedding, where M lies."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from datamodules.errors import UsageError
from experiments.report.page import write_report
from tests.experiments.reported_run import make_run


def write_panel(path: Path, step: int, shade: int) -> None:
    told = PngImagePlugin.PngInfo()
    told.add_text("Title", f"Step {step} of 1800")
    told.add_text("Description", 'image, M and label of "a" <b>')
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((300, 700, 3), shade, np.uint8)).save(path, pnginfo=told)


def test_the_last_panel_stands_in_the_page_and_earlier_ones_are_folded(tmp_path: Path) -> None:
    run = make_run(tmp_path, cases=2, slices=False)
    before = write_report(run).read_text()
    assert "as the model sees it" not in before
    write_panel(run / "panels" / "step_000900.png", 900, 50)
    write_panel(run / "panels" / "step_001800.png", 1800, 200)
    html = write_report(run).read_text()
    assert html.index("Step 1800 of 1800") < html.index("<summary>Earlier batches") < html.index("Step 900 of 1800")
    assert 'alt="image, M and label of &#34;a&#34; &lt;b&gt;"' in html
    encoded, _ = re.findall(r'<img width="700" height="300" [^>]*src="data:image/jpeg;base64,([\w+/=]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        assert picture.size == (700, 300)
        assert np.asarray(picture).mean() == pytest.approx(200, abs=2)
    assert write_report(run).read_text() == html


def test_a_panel_that_is_none_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path, cases=2, slices=False)
    (run / "panels").mkdir()
    (run / "panels" / "step_000100.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"step_000100\.png: is no picture"):
        write_report(run)


def test_likeness_to_the_rings_and_the_place_of_m_are_drawn_where_they_were_logged(tmp_path: Path) -> None:
    run = make_run(tmp_path, cases=2, slices=False)
    assert "mean cosine" not in write_report(run).read_text()
    rows = (run / "metrics.csv").read_text().splitlines()
    names = ["cosine/near", "cosine/mid", "cosine/far", "region/inside", "region/outside", "region/band_excess"]
    values = ["0.5", "0.25", "-0.5", "0.4", "0.6", "nan"]
    table = [f"{rows[0]},{','.join(names)}", *(f"{row},{','.join(values)}" for row in rows[1:])]
    (run / "metrics.csv").write_text("\n".join(table) + "\n")
    html = write_report(run).read_text()
    assert "mean cosine by training step: near ends at 0.5; mid ends at 0.25; far ends at -0.5" in html
    assert "share by training step: inside ends at 0.4; outside ends at 0.6; band_excess ends at nan" in html
