"""How far apart one scan and two scans lie, for :mod:`datamodules.same_scan`; and whether many phantoms ever are one.

    python -m tests.benchmarks.overlap_margins                  # margins, on the shipped phantom sites
    python -m tests.benchmarks.overlap_margins --phantoms 500   # no false pair among so many

The CTs of PANSITE_TEST_DATA take part where there are some.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.descriptor import Descriptor, describe
from datamodules.overlap import Scan, find_pairs
from datamodules.phantom import generate
from datamodules.phantom_settings import SiteSettings, builtin_sites
from datamodules.same_scan import SAME, agreement
from datamodules.volume_files import read_volume
from tests.datamodules.patients import WAYS, Edges

Volume = tuple[NDArray[np.int16], Edges]


def phantoms(number: int) -> Iterator[tuple[str, Volume]]:
    """As many phantoms of all sites in turn, beyond the built-in number too."""
    sites = list(builtin_sites().values())
    for place in range(number):
        yield _phantom(sites[place % len(sites)], place // len(sites))


def _phantom(settings: SiteSettings, index: int) -> tuple[str, Volume]:
    case = generate(settings, index)
    return settings.case_id(index), canonical(case.image, case.affine)


def canonical(voxels: NDArray[np.int16], affine: NDArray[np.float64]) -> Volume:
    """Voxels across, front-back and along the patient, and their edges in mm."""
    order = np.argsort(nib.io_orientation(affine)[:, 0])
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)[order]
    return np.ascontiguousarray(voxels.transpose(order)), (float(x), float(y), float(z))


def real() -> Iterator[tuple[str, Volume]]:
    """The CTs of PANSITE_TEST_DATA."""
    if folder := os.environ.get("PANSITE_TEST_DATA"):
        for name in ("example_ct.nii.gz", "example_ct_dicom"):
            voxels, grid = read_volume(Path(folder) / "totalsegmentator" / name)
            yield name, canonical(voxels.round().astype(np.int16), grid.affine)


def margins(number: int) -> None:
    """Print the lowest agreement of one scan by what was made of it, and the highest of two."""
    lowest: dict[str, float] = {}
    originals: list[Descriptor] = []
    made: list[tuple[int, Descriptor]] = []
    for place, (_, (hu, edges)) in enumerate([*phantoms(number), *real()]):
        originals.append(describe(hu, np.array(edges)))
        for way, change in WAYS.items():
            voxels, new = change(hu, edges)
            descriptor = describe(np.ascontiguousarray(voxels), np.array(new))
            if not descriptor.comparable:  # of 40 mm, the half is too little
                continue
            lowest[way] = min(lowest.get(way, 1.0), agreement(originals[-1], descriptor).score)
            if way in ("60 mm, flipped", "all of these"):
                made.append((place, descriptor))
    for way, score in lowest.items():
        print(f"one scan, {way:24s} lowest {score:.3f}")
    pairs = [agreement(a, b).score for a, b in combinations(originals, 2)]
    print(f"two scans, {len(pairs)} pairs, highest {max(pairs):.3f}, median {np.median(pairs):.3f}")
    parts = [agreement(own, part).score for place, part in made for n, own in enumerate(originals) if n != place]
    print(f"two scans, one in part or changed, {len(parts)} pairs, highest {max(parts):.3f}; one from {SAME} on")


def false_pairs(number: int) -> None:
    """Print the pairs that are found among phantoms that all are others."""
    with tempfile.TemporaryDirectory() as folder:
        scans = []
        for place, (name, (hu, edges)) in enumerate([*phantoms(number), *real()]):
            path = Path(folder) / f"{place}.npz"
            with path.open("wb") as file:
                describe(hu, np.array(edges)).write(file)
            scans.append(Scan("phantom", name, name, path))
        found = find_pairs(scans)
    print(f"{len(scans)} scans, {len(found)} false pairs", *(f"{pair.second} is {pair.first}" for pair in found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, help="look for false pairs among so many")
    parser.add_argument("--number", type=int, default=14, help="phantoms that the margins are measured on")
    given = parser.parse_args()
    if given.phantoms:
        false_pairs(given.phantoms)
    else:
        margins(given.number)
