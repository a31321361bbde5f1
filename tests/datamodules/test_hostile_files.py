"""A file made to do harm takes no more memory than what it really holds, and reads nothing but itself."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchio as tio
from ct_files import abdomen, affine, save
from faulty_site import DIM, VOX_OFFSET, patched

from datamodules import memory, nifti_files
from datamodules.errors import CaseError, UnreadableError
from datamodules.memory import available_memory
from datamodules.preprocessing import preprocess
from datamodules.volume_files import read_grid, read_volume

MIB = 2**20
NOISE = np.random.default_rng(0).bytes(4 * MIB)


def _growth(work: Callable[[], object]) -> int:
    """By how many bytes a process of its own grows at most in doing something."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with os.fdopen(reading) as file:
            said = file.read()
        assert os.waitpid(child, 0)[1] == 0, said
        return int(said)
    try:
        os.close(reading)
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak()
        work()
        os.write(writing, str(_peak() - before).encode())
        os._exit(0)
    finally:
        os._exit(1)


def _peak() -> int:
    (size,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(size) * 1024


def _refused(path: Path) -> str:
    with pytest.raises(CaseError) as caught:
        read_volume(path)
    return str(caught.value)


def test_a_bomb_is_unpacked_no_farther_than_its_header_promises(tmp_path: Path) -> None:
    path = save(tmp_path / "i.nii.gz", abdomen()[0])
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(16 * MIB)) * 64)
    assert path.stat().st_size < 2 * MIB
    assert "unpacks to far more" in _refused(path)
    assert _growth(lambda: _refused(path)) < 32 * MIB


def _promising(path: Path) -> Path:
    """A header that promises two gigabytes before bytes that could hold them, and do not."""
    header = gzip.decompress(save(path, abdomen()[0], affine((0.3, 0.3, 1.0))).read_bytes())[:352]
    path.write_bytes(gzip.compress(header + NOISE))
    patched(path, DIM + 2, [8000, 8000, 16], "<i2")
    return path


def test_a_promise_alone_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _promising(tmp_path / "i.nii.gz")
    monkeypatch.setattr(nifti_files, "check_memory", lambda *_: None)
    assert "4,194,304 bytes of voxels, where its header promises 2,048,000,000" in _refused(path)
    assert _growth(lambda: _refused(path)) < 64 * MIB


def test_extensions_take_no_more_than_they_may(tmp_path: Path) -> None:
    content = bytearray(gzip.decompress(save(tmp_path / "i.nii.gz", abdomen()[0]).read_bytes()))
    content[348:360] = np.array([1, 2**31 - 16, 4], "<i4").tobytes()
    content[VOX_OFFSET : VOX_OFFSET + 4] = np.float32(16 * MIB).tobytes()
    path = tmp_path / "i.nii.gz"
    path.write_bytes(gzip.compress(bytes(content[:360])) + gzip.compress(bytes(16 * MIB)) * 16)
    assert str(path) in _refused(path)
    assert _growth(lambda: _refused(path)) < 64 * MIB


@pytest.mark.parametrize("read", [read_grid, read_volume])
def test_a_file_without_compression_is_held_to_its_size(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = save(tmp_path / "image.nii", abdomen()[0])
    whole, grid = read_volume(path)
    np.testing.assert_array_equal(whole, abdomen()[0])
    assert grid.shape == whole.shape
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CaseError, match="is cut off: its header promises 69,472 bytes, which it can't hold"):
        read(path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"meminfo": "MemTotal: 9 kB\nMemAvailable:  500 kB\n"}, 512_000),
        ({"meminfo": "MemAvailable: 500 kB\n", "memory.max": "max\n", "memory.current": "7\n"}, 512_000),
        (
            {"meminfo": "MemAvailable: 500 kB\n", "memory.max": "400000\n", "memory.current": "390000\n",
             "memory.stat": "anon 1\nactive_file 200\ninactive_file 50000\n"},
            60_200,
        ),
        (
            {"meminfo": "MemAvailable: 500 kB\n", "self": "4:memory:/x\n0::/slurm/job_5/step_0\n",
             "slurm/job_5/memory.max": "300000\n", "slurm/job_5/memory.current": "200000\n",
             "slurm/job_5/step_0/memory.max": "max\n", "memory.max": "400000\n", "memory.current": "290000\n"},
            100_000,
        ),
        ({}, None),
    ],
)  # fmt: skip
def test_a_volume_for_which_there_is_no_memory_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int | None
) -> None:
    path = save(tmp_path / "i.nii.gz", abdomen()[0])
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "self")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert available_memory() == expected
    if expected is None:
        assert read_volume(path)[0].shape == (40, 36, 24)
    else:
        with pytest.raises(UnreadableError, match=r"i\.nii\.gz needs about .* GB of memory, and 0.0 GB are free"):
            read_volume(path)


def test_a_grid_that_no_scanner_sees_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "i.nii.gz", np.zeros((200, 3, 3), np.int16), affine((30.0, 30.0, 30.0)))
    assert "by its header it is 6 × 0.09 × 0.09 m large, and 4 is believed" in _refused(path)


def test_a_case_that_a_finer_grid_would_make_enormous_is_refused() -> None:
    """A spacing of 5 cm is believed by itself; at half a millimetre it would be a million times the voxels."""
    hu, _ = abdomen()
    image = tio.ScalarImage(tensor=torch.from_numpy(hu.astype(np.float32))[None], affine=affine((50.0, 50.0, 50.0)))
    with pytest.raises(CaseError, match=r"at 0\.5 × 0\.5 × 0\.5 mm it would have \d+ × \d+ × \d+ voxels"):
        preprocess(image, None, (0.5, 0.5, 0.5))
