"""A site of one good case, of cases that are odd and as good, and of one case for every way of being damaged."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from datamodules.layouts.manifest import ManifestSite
from tests.datamodules.ct_files import SHAPE, abdomen, affine, save, turned

Spoil = Callable[[Path, Path], object]
"""What is done to a good image and its label."""
HU, IDS = abdomen()
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, QFORM_CODE, SFORM_CODE, SROW = 40, 70, 76, 108, 112, 252, 254, 280


def patched(path: Path, place: int, value: Any, kind: str = "<f4") -> None:
    """Overwrite what stands at a place of a ``.nii.gz``'s header."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    new = np.atleast_1d(np.array(value, dtype=kind)).tobytes()
    content[place : place + len(new)] = new
    path.write_bytes(gzip.compress(bytes(content), 1))


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def _flipped_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def _with(values: NDArray[Any], value: Any, kind: type = np.float32) -> NDArray[Any]:
    changed = values.astype(kind)
    changed[3, 4, 5:8] = value
    return changed


def _no_sform(path: Path, **pixdim: float) -> None:
    patched(path, QFORM_CODE, [1, 0], "<i2")
    for axis, edge in pixdim.items():
        patched(path, PIXDIM + 4 * (1 + "xyz".index(axis)), edge)


def _flat(path: Path) -> None:
    """Its first two axes run the same way."""
    patched(path, QFORM_CODE, 0, "<i2")
    patched(path, SROW, [5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0])


def _link(path: Path, to: str) -> None:
    path.unlink()
    path.symlink_to(to)


def _replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _moved(axis: int, by: float) -> NDArray[np.float64]:
    matrix = affine()
    matrix[axis, 3] += by
    return matrix


def _turned_a_little(axes: tuple[int, int], angle: float) -> NDArray[np.float64]:
    turn = np.eye(4)
    turn[np.ix_(axes, axes)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return np.asarray(turn @ affine())


def _sheared() -> NDArray[np.float64]:
    matrix = affine()
    matrix[1, 2] = 1.5
    return matrix


def _save_sform(path: Path, matrix: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(HU, matrix)
    image.set_sform(matrix, 1)
    nib.save(image, path)


def _save_both(path: Path, sform: NDArray[np.float64], qform: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(HU, sform)
    image.set_qform(qform, 1, update_affine=False)
    image.set_sform(sform, 1, update_affine=False)
    nib.save(image, path)


def _structured(path: Path) -> None:
    voxels = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(voxels, affine()), path)


DAMAGED: dict[str, tuple[Spoil, str]] = {
    # what lies there is no file, or none of ours
    "image missing": (lambda i, _: i.unlink(), "does not exist"),
    "link to nowhere": (lambda i, _: _link(i, "nowhere"), "does not exist (a link to nowhere)"),
    "link to itself": (lambda i, _: _link(i, i.name), "does not exist (a link to nowhere)"),
    "folder": (lambda i, _: _replaced(i, Path.mkdir), "holds no DICOM series: it is empty"),
    "pipe": (lambda i, _: _replaced(i, os.mkfifo), "is neither a file nor a folder"),
    "text": (lambda i, _: i.write_text("<html>404</html>"), "is not a NIfTI file"),
    "empty file": (lambda i, _: i.write_bytes(b""), "is not a NIfTI file"),
    "not packed": (lambda i, _: i.write_bytes(_unpacked(i)), "is not a NIfTI file or its header is damaged (Not a gz"),
    # damaged bytes
    "cut off": (lambda i, _: _cut(i, 0.6), "damaged or cut off"),
    "trailer lost": (lambda i, _: i.write_bytes(i.read_bytes()[:-6]), "damaged or cut off"),
    "checksum wrong": (lambda i, _: _flipped_bit(i, -8), "damaged or cut off"),
    "bit flipped": (lambda i, _: _flipped_bit(i, 20_000), "damaged or cut off"),
    "header alone": (lambda i, _: i.write_bytes(gzip.compress(_unpacked(i)[:352])), "damaged or cut off (0 bytes of"),
    "half a header": (lambda i, _: i.write_bytes(gzip.compress(_unpacked(i)[:200])), "does not begin as one"),
    # headers that promise what can't be
    "wrong header": (lambda i, _: patched(i, 0, 999, "<i4"), "does not begin as one"),
    "wrong magic": (lambda i, _: patched(i, 344, [0, 0, 0, 0], "u1"), "is not a NIfTI file or its header is damaged"),
    "absurd dimensions": (lambda i, _: patched(i, DIM + 2, [32767] * 3, "<i2"), "absurd shape (32767, 32767, 32767)"),
    "negative dimension": (lambda i, _: patched(i, DIM + 4, -36, "<i2"), "absurd shape (40, -36, 24)"),
    "no dimension": (lambda i, _: patched(i, DIM, 0, "<i2"), "absurd shape"),
    "more promised": (lambda i, _: patched(i, DIM + 2, [8000, 8000, 9], "<i2"), "which it can't hold"),
    "voxels beyond the end": (lambda i, _: patched(i, VOX_OFFSET, 1e6), "it ends before the voxels begin"),
    "voxels in the header": (lambda i, _: patched(i, VOX_OFFSET, 0.0), "begin at byte 0, which is absurd"),
    "voxels far beyond": (lambda i, _: patched(i, VOX_OFFSET, 1e9), "begin at byte 1e+09, which is absurd"),
    "unknown type": (lambda i, _: patched(i, DATATYPE, 999, "<i2"), "is not a NIfTI file or its header is damaged"),
    "slope without intercept": (lambda i, _: patched(i, SLOPE, [2, np.nan]), "its header is damaged"),
    "bomb": (lambda i, _: i.write_bytes(gzip.compress(_unpacked(i) + bytes(2**24))), "unpacks to far more"),
    # no grid of a CT
    "two volumes": (lambda i, _: save(i, np.stack([HU, HU], -1)), "is 4-D"),
    "one slice": (lambda i, _: save(i, HU[..., 0]), "is 2-D"),
    "colours": (lambda i, _: _structured(i), "single numbers are wanted"),
    "complex": (lambda i, _: save(i, HU.astype(np.complex64)), "type complex64, and single numbers are wanted"),
    "no spacing": (lambda i, _: _no_sform(i, x=0.0), "gives a spacing of 0 × 5 × 5 mm"),
    "NaN spacing": (lambda i, _: _no_sform(i, z=np.nan), "gives a spacing of 5 × 5 × nan mm"),
    "negative spacing": (lambda i, _: _no_sform(i, z=-5.0), "gives a spacing of 5 × 5 × -5 mm"),
    "tiny spacing": (lambda i, _: _no_sform(i, z=1e-9), "gives a spacing of"),
    "huge spacing": (lambda i, _: _no_sform(i, z=1e5), "gives a spacing of"),
    "no orientation": (lambda i, _: patched(i, SROW, [0] * 12), "gives a spacing of 0 × 0 × 0 mm"),
    "NaN orientation": (lambda i, _: patched(i, SROW, np.nan), "gives a spacing of nan"),
    "flat orientation": (lambda i, _: _flat(i), "its axes meet at 0.0° and not at a right angle"),
    "tilted gantry": (lambda i, _: _save_sform(i, _sheared()), "its axes meet at 73.3°"),
    "mirrored in one of two": (lambda i, _: _save_both(i, affine(), np.diag([-1, 1, 1, 1]) @ affine()), "180° apart"),
    "two spacings": (lambda i, _: _save_both(i, affine(), affine((5, 5, 3))), "5 × 5 × 5 mm and 5 × 5 × 3 mm"),
    # no HU
    "NaN": (lambda i, _: save(i, _with(HU, np.nan)), "3 voxels that are NaN or infinite"),
    "infinite": (lambda i, _: save(i, _with(HU, -np.inf)), "3 voxels that are NaN or infinite"),
    "absurd values": (lambda i, _: save(i, _with(HU, 1e6)), "to 1e+06, which are no HU"),
    "absurd slope": (lambda i, _: patched(i, SLOPE, [1e30, 0.0]), "which are no HU"),
    "constant": (lambda i, _: save(i, np.full(SHAPE, -1000, np.int16)), "the value -1000 everywhere"),
    "windowed": (lambda i, _: save(i, ((HU.clip(-160, 240) + 160) / 400 * 255).astype(np.uint8)), "check_ct: false"),
    "intercept lost": (lambda i, _: save(i, HU + 1024), "its rescale intercept was lost"),
    # labels
    "label missing": (lambda _, b: b.unlink(), "does not exist"),
    "label cut off": (lambda _, b: _cut(b, 0.8), "damaged or cut off"),
    "label empty": (lambda _, b: save(b, np.zeros(SHAPE, np.uint8)), "is empty"),
    "unknown ids": (lambda _, b: save(b, IDS // 7 * 3), "none of the wanted ids [7]; it has 0, 3"),
    "fractions": (lambda _, b: save(b, _with(IDS, 0.37)), "values like 0.37, and whole label ids"),
    "NaN label": (lambda _, b: save(b, _with(IDS, np.nan)), "not finite"),
    "label of two": (lambda _, b: save(b, np.stack([IDS, IDS], -1)), "is 4-D"),
    "label smaller": (lambda _, b: save(b, IDS[:-1]), "another grid than the image: 39 × 36 × 24 voxels of 5 × 5 × 5"),
    "label larger": (lambda _, b: save(b, np.pad(IDS, 2)), "another grid than the image: 44 × 40 × 28 voxels"),
    "label moved": (lambda _, b: save(b, IDS, _moved(0, 2.0)), "corners up to 0.4 voxels apart"),
    "label stretched": (lambda _, b: save(b, IDS, affine((5, 5, 5.25))), "another grid than the image"),
    "label turned": (lambda _, b: save(b, IDS, _turned_a_little((0, 1), 0.05)), "another grid than the image"),
    "label mirrored in one of two": (
        lambda _, b: _save_both(b, affine(), np.diag([1, -1, 1, 1]) @ affine()), "contradict one another"
    ),
    "pancreas too small": (lambda _, b: save(b, _one(IDS)), "nothing of it is left"),
}  # fmt: skip


def _one(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of the pancreas a single voxel, which a coarser grid passes over."""
    one = np.zeros_like(ids)
    one[17, 17, 11] = 7
    return one


def _big_endian(image: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(HU.astype(">i2"), affine(), header), image)


def _oriented(image: Path, label: Path, codes: str) -> None:
    save(image, *turned(HU, affine(), codes))
    save(label, *turned(IDS, affine(), codes))


def _oblique(image: Path, label: Path) -> None:
    for path, array in ((image, HU), (label, IDS)):
        save(path, array, _turned_a_little((0, 2), 0.3))


def _scaled(image: Path) -> None:
    """HU as (stored − 2000) / 2, as some tools write."""
    save(image, (2 * HU + 2000).astype(np.int16))
    patched(image, SLOPE, [0.5, -1000.0])


ODD: dict[str, Spoil] = {
    "slope of zero": lambda i, _: patched(i, SLOPE, [0.0, 7.0]),
    "slope of NaN": lambda i, _: patched(i, SLOPE, [np.nan, np.nan]),
    "scaled": lambda i, _: _scaled(i),
    "floats": lambda i, b: (save(i, HU.astype(np.float64)), save(b, IDS.astype(np.float32))),
    "other byte order": lambda i, _: _big_endian(i),
    "second version": lambda i, _: nib.save(nib.Nifti2Image(HU, affine()), i),
    "left-handed": lambda i, b: _oriented(i, b, "LAS"),
    "axes in another order": lambda i, b: _oriented(i, b, "SLP"),
    "label the other way": lambda _, b: save(b, *turned(IDS, affine(), "LPI")),
    "label nearly there": lambda _, b: save(b, IDS, _moved(1, 0.7)),
    "trailing axes": lambda i, b: (save(i, HU[..., None]), save(b, IDS[..., None, None])),
    "no sform": lambda i, _: _no_sform(i),
    "negative pixdim": lambda i, _: patched(i, PIXDIM + 12, -5.0),
    "a hundred other ids": lambda _, b: save(b, np.where(IDS == 7, 7, np.arange(24) % 7).astype(np.int16)),
}
"""Cases that are as good as the good one, and hold the same."""
SEEN_OTHERWISE: dict[str, Spoil] = {"oblique": _oblique}
"""Good cases whose grid is another."""
NAMES = ("Größe 3 – 胰腺", '<img src=x onerror="alert(1)">&', "[bold red]x[", "%s {0} $x_$", "-rf")
"""Ids of good cases."""


def write_faulty_site(folder: Path) -> ManifestSite:
    """Write all of them; a case's id says what is wrong with it."""
    folder.mkdir(parents=True)
    rows = ["case,image,label"]
    everything = {"good": lambda i, b: None, **ODD, **SEEN_OTHERWISE, **{k: spoil for k, (spoil, _) in DAMAGED.items()}}
    save(folder / "good.nii.gz", HU)
    save(folder / "good_label.nii.gz", IDS)
    good = [(folder / f"good{kind}.nii.gz").read_bytes() for kind in ("", "_label")]
    for name, spoil in everything.items():
        paths = [folder / f"{name}{kind}.nii.gz" for kind in ("", "_label")]
        for path, content in zip(paths, good, strict=True):
            path.write_bytes(content)
        spoil(*paths)
        rows.append(f"{name},{name}.nii.gz,{name}_label.nii.gz")
    rows += ['"{}",good.nii.gz,good_label.nii.gz'.format(name.replace('"', '""')) for name in NAMES]
    rows += ["no label,good.nii.gz,", "twice,good.nii.gz,good_label.nii.gz", "twice,floats.nii.gz,good_label.nii.gz"]
    rows += [f"long path,{'x' * 300}.nii.gz,good_label.nii.gz", "strange path,a\0b\x1b[2J.nii.gz,good_label.nii.gz"]
    rows += ['two lines,"a', 'b.nii.gz",good_label.nii.gz', "another format,picture.png,good_label.nii.gz"]
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return ManifestSite(name="faulty", root=str(folder / "cases.csv"), labels=[7])


REASONS: dict[str, str] = {
    **{name: words for name, (_, words) in DAMAGED.items()},
    "no label": "it has no label",
    "twice": "its id occurs 2 times in",
    "long path": "can't be read (File name too long)",
    "strange path": r"a\x00b\x1b[2J.nii.gz does not exist",
    "two lines": r"a\nb.nii.gz does not exist",
    "another format": "picture.png is a .png file, and a NIfTI file (.nii, .nii.gz) or a DICOM folder is wanted",
}
"""What is said of every case that can't be used."""
KEPT = ("good", *ODD, *SEEN_OTHERWISE, *NAMES)
