"""How much faster the store gives a random 96³ patch than decompressing the volume's .nii.gz.

    python -m tests.benchmarks.store_patch [repeats]

A 512×512×200 CT-like volume (smooth tissue, noise, air around it); store and NIfTI are read in turn within one
run, each time at another place, and the medians are compared. The files lie in the page cache.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datamodules.randomness import numpy_generator
from datamodules.store import CaseRecord, StoredCase, write_case

SHAPE = (512, 512, 200)
PATCH = 96


def volume(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.int16]:
    """Int16 HU D×H×W, of edges that 8 divides: an elliptic body with noise of 12 HU in air."""
    rng = numpy_generator(seed, "benchmark volume")
    coarse = rng.normal(40, 60, [size // 8 for size in shape]).astype(np.float32)
    tissue = ndimage.zoom(coarse, 8, order=1) + rng.normal(0, 12, shape).astype(np.float32)
    d, h = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = (d / 0.8) ** 2 + (h / 0.6) ** 2 < 1
    return np.where(body[..., None], tissue, -1000).clip(-1024, 3071).round().astype(np.int16)


def record(image: NDArray[np.int16]) -> CaseRecord:
    """A record for ``image``, which has no original."""
    affine = np.eye(4).tolist()
    shape = (image.shape[0], image.shape[1], image.shape[2])
    return CaseRecord(
        "benchmark", "volume", "volume", shape, (1.0, 1.0, 1.0), affine, shape, affine,
        "volume.nii.gz", None, [1], "", "", 0.0, [],
    )  # fmt: skip


def measure(repeats: int) -> dict[str, float]:
    """Median seconds for ``store`` and ``nifti``, and their ``ratio``."""
    image = volume()
    rng = numpy_generator(0, "benchmark places")
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), record(image), image)
        path = Path(folder) / "volume.nii.gz"
        nib.save(nib.Nifti1Image(image, np.eye(4)), path)
        stored = StoredCase(Path(folder))
        times: dict[str, list[float]] = {"store": [], "nifti": []}
        for _ in range(repeats):
            start = [int(rng.integers(0, size - PATCH + 1)) for size in SHAPE]
            window = (
                slice(start[0], start[0] + PATCH),
                slice(start[1], start[1] + PATCH),
                slice(start[2], start[2] + PATCH),
            )
            begin = time.perf_counter()
            patch = stored.image(window)
            between = time.perf_counter()
            expected = np.asarray(nib.load(path).dataobj)[window]
            times["nifti"].append(time.perf_counter() - between)
            times["store"].append(between - begin)
            if not np.array_equal(patch, expected):
                raise AssertionError("the store gave another patch than the NIfTI")
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {**medians, "ratio": medians["nifti"] / medians["store"]}


if __name__ == "__main__":
    result = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
    print(
        f"store {1e3 * result['store']:.1f} ms, .nii.gz {1e3 * result['nifti']:.0f} ms: "
        f"{result['ratio']:.0f} times faster"
    )
