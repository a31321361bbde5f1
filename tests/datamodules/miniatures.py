"""Every public layout in miniature, as its archive unpacks: names, ids, orientations, number types, stray files.

Each function takes a folder and scans and returns what a site's ``root`` is to be; the same scans given to two of them
make sites that overlap, as the public ones do. A scan's label has 1 in the pancreas and 2 in a lesion of it.
"""

from __future__ import annotations

import json
import locale
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from datamodules.label_flips import flipped
from datamodules.layouts.site import Flip
from tests.datamodules.ct_files import affine, save, turned

APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"
"""How an AppleDouble file begins, which macOS puts beside every file of an archive."""
NEIGHBOUR = 3
"""Number of a voxel of the other organs in what the layouts store, where an id of the pancreas is not it."""
BODY_TISSUES = (-700, -90, 20, 70, 150, 260)
"""HU of what lies about in a body, gas to calcified vessels."""


@dataclass(frozen=True)
class Scan:
    """A CT and its label.

    Attributes:
        hu: int16 D×H×W.
        label: uint8 D×H×W: 1 pancreas, 2 lesion in it, 9 another organ.
        affine: 4×4, voxel to world in RAS mm.
    """

    hu: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]

    def turned(self, codes: str) -> Scan:
        """The same scan stored in another orientation, such as ``"LPS"``."""
        hu, matrix = turned(self.hu, self.affine, codes)
        return Scan(hu, turned(self.label, self.affine, codes)[0], matrix)


def scans(number: int, first: int = 0, shape: tuple[int, int, int] = (40, 36, 24)) -> list[Scan]:
    """As many patients, each built another way: a pancreas that no mirror maps to itself, with a small lesion."""
    return [_patient(np.random.default_rng(seed), shape) for seed in range(first, first + number)]


def _patient(generator: np.random.Generator, shape: tuple[int, int, int]) -> Scan:
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    width, depth, tilt = generator.uniform((0.7, 0.6, -0.15), (0.95, 0.9, 0.15))
    radius = np.hypot((x - tilt * z) / width, y / depth)
    hu = np.where(radius < 1, -100.0, -1000.0)
    hu[radius < 0.8] = 40
    for _ in range(80):
        place, size = generator.uniform(-0.7, 0.7, 3), generator.uniform(0.08, 0.3, 3)
        blob = sum(((axis - p) / s) ** 2 for axis, p, s in zip((x, y, z), place, size, strict=True)) < 1
        hu[blob & (radius < 0.8)] = generator.choice(BODY_TISSUES)
    hu[np.hypot(x - tilt * z, y + generator.uniform(0.4, 0.5)) < generator.uniform(0.1, 0.17)] = 400
    label = np.zeros(shape, dtype=np.uint8)
    label[(x > 0.3) & (radius < 0.7) & (abs(z) < 0.5)] = 9
    dx, dy, dz = generator.uniform((-0.2, -0.1, -0.25), (0.2, 0.15, 0.3))
    wide, deep, high = generator.uniform((0.5, 0.3, 0.35), (0.65, 0.45, 0.6))
    around = (abs(x - dx + 0.05) < wide) & (abs(y - dy - 0.05) < deep) & (abs(z - dz + 0.1) < high) & (radius < 0.8)
    hu[around] = -90
    body = (abs(x - dx) < 0.45) & (abs(y - dy) < 0.2) & (abs(z - dz) < 0.2)
    head = (abs(x - dx + 0.4) < 0.12) & (abs(y - dy - 0.15) < 0.2) & (abs(z - dz + 0.3) < 0.2)
    label[body | head] = 1
    hu[label == 1] = 110
    label[tuple(np.argwhere(label == 1)[:6].T)] = 2
    hu += generator.normal(0, 8, shape)
    return Scan(hu.round().astype(np.int16), label, affine())


def nih(root: Path, given: Sequence[Scan], flip: Flip = "j", first: int = 1) -> Path:
    """NIH Pancreas-CT: DICOM series, and labels whose headers lie: their voxels are reversed along ``flip``."""
    for number, scan in enumerate(given, start=first):
        lps = scan.turned("LPS")
        series = root / "Pancreas-CT" / f"PANCREAS_{number:04}" / "11-24-2015-PANCREAS-9" / "Pancreas-63502"
        dicom_series(series, lps, uid=f"1.2.826.{number}")
        (series / "._1-001.dcm").write_bytes(APPLE)
        folder = root / "TCIA_pancreas_labels-02-05-2017"
        organ = _organ(lps.label, organ=1, lesion=1)
        header = np.diag([*np.linalg.norm(lps.affine[:3, :3], axis=0), 1.0])
        save(folder / f"label{number:04}.nii.gz", np.ascontiguousarray(flipped(organ, flip)), header)
    return root


def msd(root: Path, given: Sequence[Scan]) -> Path:
    """MSD Task07: RAS, tumour 2, AppleDouble files beside each file."""
    root = root / "Task07_Pancreas"
    names = [f"pancreas_{number:03}.nii.gz" for number in range(1, len(given) + 1)]
    for name, scan in zip(names, given, strict=True):
        ras = scan.turned("RAS")
        _save_pair(root / "imagesTr" / name, root / "labelsTr" / name, ras, _organ(ras.label, organ=1, lesion=2))
    (root / "imagesTs").mkdir()
    (root / "imagesTs" / "pancreas_900.nii.gz").write_bytes(b"not labelled, not read")
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    _write_json(
        root / "dataset.json",
        {"name": "Pancreas", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "pancreas", "2": "cancer"},
         "training": training, "test": ["./imagesTs/pancreas_900.nii.gz"]},
    )  # fmt: skip
    return root


def amos(root: Path, given: Sequence[Scan]) -> Path:
    """AMOS22: LAS, id 10, training and validation folders, and an MR among them."""
    root = root / "amos22"
    for number, scan in enumerate(given, start=1):
        las, part = scan.turned("LAS"), "Va" if number % 3 == 0 else "Tr"
        name = f"amos_{number:04}.nii.gz"
        label = _organ(las.label, organ=10, lesion=10)
        _save_pair(root / f"images{part}" / name, root / f"labels{part}" / name, las, label)
    mr = Scan(np.abs(given[0].hu), given[0].label, given[0].affine)
    for kind, array in (("images", mr.hu), ("labels", _organ(mr.label, organ=10, lesion=10))):
        save(root / f"{kind}Tr" / "amos_0507.nii.gz", array, mr.affine)
    (root / "imagesTs").mkdir()
    (root / "imagesTs" / "amos_0111.nii.gz").write_bytes(b"not labelled, not read")
    _write_json(root / "dataset.json", {"name": "AMOS", "modality": {"0": "CT"}, "labels": {"10": "pancreas"}})
    return root


def btcv(root: Path, given: Sequence[Scan]) -> Path:
    """BTCV: id 11, images and labels of other names, numbers 1 to 10 and 21 to 40."""
    training = root / "RawData" / "Training"
    for number, scan in zip([*range(1, 11), *range(21, 41)], given, strict=False):
        las = scan.turned("LAS")
        label = _organ(las.label, organ=11, lesion=11)
        _save_pair(
            training / "img" / f"img{number:04}.nii.gz", training / "label" / f"label{number:04}.nii.gz", las, label
        )
    return root


def word(root: Path, given: Sequence[Scan]) -> Path:
    """WORD: LPS, id 8, three parts."""
    root = root / "WORD-V0.1.0"
    (root / "imagesTr").mkdir(parents=True)
    for number, scan in enumerate(given, start=2):
        lps, part = scan.turned("LPS"), ("Tr", "Val", "Ts")[number % 3]
        name = f"word_{number:04}.nii.gz"
        label = _organ(lps.label, organ=8, lesion=8)
        _save_pair(root / f"images{part}" / name, root / f"labels{part}" / name, lps, label)
    return root


def flare22(root: Path, given: Sequence[Scan]) -> Path:
    """FLARE22: id 4, images with a channel suffix; its scans come from MSD Pancreas under other names."""
    folder = root / "Training" / "FLARE22_LabeledCase50"
    for number, scan in enumerate(given, start=1):
        name = f"FLARE22_Tr_{number:04}"
        label = _organ(scan.label, organ=4, lesion=4)
        _save_pair(folder / "images" / f"{name}_0000.nii.gz", folder / "labels" / f"{name}.nii.gz", scan, label)
    return root


def abdomenct1k(root: Path, given: Sequence[Scan], images: str = "Images", labels: str = "Masks") -> Path:
    """AbdomenCT-1K: id 4; it contains MSD Pancreas and NIH, saved anew as LPS and float32."""
    for number, scan in enumerate(given, start=1):
        lps = scan.turned("LPS")
        name = f"Case_{number:05}"
        saved = Scan(lps.hu.astype(np.float32), lps.label, lps.affine)  # type: ignore[arg-type]  # as they do
        label = _organ(lps.label, organ=4, lesion=4)
        _save_pair(root / images / f"{name}_0000.nii.gz", root / labels / f"{name}.nii.gz", saved, label)
    return root


def totalsegmentator(root: Path, given: Sequence[Scan]) -> Path:
    """TotalSegmentator v2: a folder a case, a file an organ, masks as floats, a body part without a pancreas."""
    for number, scan in enumerate(given):
        segmentations = root / f"s{number:04}" / "segmentations"
        save(segmentations.parent / "ct.nii.gz", scan.hu, scan.affine)
        save(segmentations / "pancreas.nii.gz", _organ(scan.label, 1, 1).astype(np.float32), scan.affine)
        save(segmentations / "liver.nii.gz", (scan.label == 9).astype(np.float64), scan.affine)
    (root / "meta.csv").write_text("image_id;age;gender\ns0000;50;m\n")
    return root


def panorama(root: Path, given: Sequence[Scan], origins: Sequence[str] = ()) -> Path:
    """PANORAMA: parenchyma 4, lesion 1, duct 5, float64 masks; NIH's part LAI, MSD's RAS, its own LPS.

    Args:
        root: the folder.
        given: the scans.
        origins: ``"nih"``, ``"msd"`` or ``"own"`` of each; all their own by default.
    """
    codes = {"nih": "LAI", "msd": "RAS", "own": "LPS"}
    for number, (scan, origin) in enumerate(zip(given, origins or ["own"] * len(given), strict=True)):
        stored = scan.turned(codes[origin])
        label = _organ(stored.label, organ=4, lesion=1).astype(np.float64)
        label[tuple(np.argwhere(label == 4)[::7].T)] = 5
        name, kind = f"{100000 + number}_00001", "manual" if number % 2 else "automatic"
        target = root / "panorama_labels" / f"{kind}_labels" / f"{name}.nii.gz"
        _save_pair(root / "batch_1" / f"{name}_0000.nii.gz", target, stored, label)
    return root


def abdomenatlas(root: Path, given: Sequence[Scan]) -> Path:
    """AbdomenAtlas: a folder a case, a file an organ."""
    for number, scan in enumerate(given, start=1):
        folder = root / f"BDMAP_{number:08}"
        save(folder / "ct.nii.gz", scan.hu, scan.affine)
        save(folder / "segmentations" / "pancreas.nii.gz", _organ(scan.label, 1, 1), scan.affine)
    return root


def pants(root: Path, given: Sequence[Scan]) -> Path:
    """PanTS: images and labels apart, a file a structure, the lesion in its own."""
    for number, scan in enumerate(given, start=1):
        name, part = f"PanTS_{number:08}", "Te" if number % 4 == 0 else "Tr"
        save(root / f"Image{part}" / name / "ct.nii.gz", scan.hu, scan.affine)
        segmentations = root / f"Label{part}" / name / "segmentations"
        save(segmentations / "pancreas.nii.gz", _organ(scan.label, 1, 0), scan.affine)
        save(segmentations / "pancreatic_lesion.nii.gz", _organ(scan.label, 0, 1), scan.affine)
    return root


def nnunet(root: Path, given: Sequence[Scan]) -> Path:
    """nnU-Net raw, version 2: labels by name, the pancreas and its cancer apart."""
    root = root / "Dataset777_Pancreas"
    for number, scan in enumerate(given):
        image, label = root / "imagesTr" / f"p{number}_0000.nii.gz", root / "labelsTr" / f"p{number}.nii.gz"
        _save_pair(image, label, scan, _organ(scan.label, organ=2, lesion=1))
    description: dict[str, Any] = {
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "cancer": 1, "pancreas": 2},
        "numTraining": len(given), "file_ending": ".nii.gz",
    }  # fmt: skip
    _write_json(root / "dataset.json", description)
    return root


MINIATURES: dict[str, Callable[[Path, Sequence[Scan]], Path]] = {
    "nih": nih, "msd": msd, "amos": amos, "btcv": btcv, "word": word, "flare22": flare22, "abdomenct1k": abdomenct1k,
    "totalsegmentator": totalsegmentator, "panorama": panorama, "abdomenatlas": abdomenatlas, "pants": pants,
    "nnunet": nnunet,
}  # fmt: skip
"""Every layout by its name."""


def dicom_series(folder: Path, scan: Scan, uid: str) -> Path:
    """A scan whose axes run to the patient's left, back and head, as the slices of an axial series."""
    folder.mkdir(parents=True)
    edges = np.linalg.norm(scan.affine[:3, :3], axis=0)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    with _own_locale():
        for number in range(scan.hu.shape[2]):
            image = SimpleITK.GetImageFromArray(np.ascontiguousarray(scan.hu[:, :, number].T))
            image.SetSpacing((float(edges[0]), float(edges[1])))
            x, y, z = (scan.affine @ [0, 0, number, 1])[:3]
            for key, value in {
                "0008|0060": "CT", "0020|000d": f"{uid}.1", "0020|000e": uid, "0008|0018": f"{uid}.2.{number}",
                "0020|0032": f"{-x:.6g}\\{-y:.6g}\\{z:.6g}", "0020|0037": "1\\0\\0\\0\\1\\0",
                "0020|0013": str(number + 1), "0028|1052": "-1024", "0028|1053": "1", "0018|0050": f"{edges[2]:g}",
            }.items():  # fmt: skip
                image.SetMetaData(key, value)
            writer.SetFileName(str(folder / f"1-{number + 1:03}.dcm"))
            writer.Execute(image)
    return folder


@contextmanager
def _own_locale() -> Iterator[None]:
    """GDCM's writer leaves the process in the locale "C"."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def _organ(label: NDArray[np.uint8], organ: int, lesion: int) -> NDArray[np.uint8]:
    """The label in a layout's ids; where it has more than the pancreas, another organ is among them."""
    ids = np.zeros_like(label)
    ids[label == 1], ids[label == 2] = organ, lesion
    if organ > 2:
        ids[label == 9] = NEIGHBOUR
    return ids


def _save_pair(image: Path, label: Path, scan: Scan, ids: NDArray[Any]) -> None:
    for path, array in ((image, scan.hu), (label, ids)):
        save(path, array, scan.affine)
        (path.parent / f"._{path.name}").write_bytes(APPLE)
        (path.parent / ".DS_Store").write_bytes(b"\x00\x00\x00\x01Bud1")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")
