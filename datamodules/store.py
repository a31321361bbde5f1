"""Cases on disk as training reads them: blosc2 arrays from which a patch comes without reading the volume.

A case is a folder::

    image.b2nd       int16 D×H×W: HU, clipped to HU_RANGE
    label.b2nd       uint8 D×H×W: 1 in the pancreas
    distance.b2nd    int16 D×H×W: signed distance to the pancreas' surface in 1/100 mm, negative inside
    axis.b2nd        uint8 D×H×W: 0 at the head's end to 254 at the tail's; AXIS_OUTSIDE outside
    foreground.npy   int32 N×4: voxels (d, h, w) of the pancreas and their third (0 head, 1 body, 2 tail)
    record.json      CaseRecord

A case without a label has the image and the record only.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.atomic import write_json
from datamodules.layouts.site import Flip

HU_RANGE = (-1024, 3071)
"""What a stored image is clipped to: twelve bits, as scanners write them."""
DISTANCE_SCALE = 100
"""Steps of a stored distance to the millimetre."""
AXIS_STEPS = 254
"""The stored axis value of the tail's end; a = value / AXIS_STEPS."""
AXIS_OUTSIDE = 255
"""The stored axis value outside the pancreas."""
CHUNK, BLOCK = 64, 32
"""Edge lengths of what is stored together, and of what is decompressed together."""

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Window = tuple[slice, slice, slice]


@dataclass(frozen=True)
class CaseRecord:
    """What is known of a prepared case.

    Attributes:
        site: the site's name.
        case: the case's id within the site.
        patient: the patient's id within the site.
        shape: D, H, W of the stored grid.
        spacing: mm along D, H, W of the stored grid.
        affine: 4×4, stored voxel to world in RAS mm.
        native_shape: shape of the original image.
        native_affine: 4×4, original voxel to world in RAS mm.
        image_path: the original image: a NIfTI file or a DICOM series' folder.
        label_path: the original label, None where there is none.
        labels: the label ids that were merged into the pancreas.
        digest: SHA-256 over the original voxels and affines of image and label: enters the identity of a run.
        fingerprint: of the original image's voxels, the same after reorientation or saving anew.
        pancreas_volume_ml: volume of the stored label; 0 where there is none.
        warnings: what was found odd and did not exclude the case, one sentence each.
        more_label_paths: further original labels, united with the first.
        label_flip: how the label's file lies on the image's grid; see :func:`datamodules.reading.read_label`.
        label_evidence: ``flip``, ``margin``, ``scores`` and ``header_agrees``, where it was not the header that told.
    """

    site: str
    case: str
    patient: str
    shape: Shape
    spacing: Spacing
    affine: list[list[float]]
    native_shape: Shape
    native_affine: list[list[float]]
    image_path: str
    label_path: str | None
    labels: list[int]
    digest: str
    fingerprint: str
    pancreas_volume_ml: float
    warnings: list[str]
    more_label_paths: list[str] = field(default_factory=list)
    label_flip: Flip = "header"
    label_evidence: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, as they go into JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CaseRecord:
        """The record that :meth:`to_dict` gave, also after a way through JSON."""
        tuples = {key: tuple(values[key]) for key in ("shape", "spacing", "native_shape")}
        return cls(**{**values, **tuples})


class StoredCase:
    """A prepared case, opened when first read; cheap to pickle, safe to use after a fork.

    Args:
        folder: the case's folder in the store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.record = CaseRecord.from_dict(json.loads((self.folder / "record.json").read_text("utf-8")))
        self._arrays: dict[str, Any] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}

    def __repr__(self) -> str:
        return f"StoredCase({self.record.site}/{self.record.case})"

    @property
    def labelled(self) -> bool:
        """Whether the case has a label, and with it distance, axis and foreground."""
        return (self.folder / "label.b2nd").is_file()

    def image(self, window: Window | None = None) -> NDArray[np.int16]:
        """HU, int16 D×H×W.

        Args:
            window: slices along D, H, W; what a slice leaves out of the volume is not padded. None reads all.
        """
        return self._read("image", window)

    def label(self, window: Window | None = None) -> NDArray[np.uint8]:
        """The pancreas, uint8 D×H×W, 0 or 1."""
        return self._read("label", window)

    def distance(self, window: Window | None = None) -> NDArray[np.int16]:
        """Signed distance to the pancreas' surface, int16 D×H×W, in 1/:data:`DISTANCE_SCALE` mm."""
        return self._read("distance", window)

    def axis(self, window: Window | None = None) -> NDArray[np.uint8]:
        """Head-to-tail coordinate, uint8 D×H×W, in 1/:data:`AXIS_STEPS`; :data:`AXIS_OUTSIDE` outside."""
        return self._read("axis", window)

    def foreground(self) -> NDArray[np.int32]:
        """Voxels of the pancreas to centre patches on, int32 N×4: d, h, w and third (0 head, 1 body, 2 tail)."""
        return np.asarray(np.load(self.folder / "foreground.npy"), dtype=np.int32)

    def _read(self, name: str, window: Window | None) -> NDArray[Any]:
        array = self._open(name)
        return np.asarray(array[:] if window is None else array[window])

    def _open(self, name: str) -> Any:
        if self._process != os.getpid():
            self._arrays, self._process = {}, os.getpid()
        if name not in self._arrays:
            import blosc2

            # One thread: loader workers and ranks read side by side already.
            self._arrays[name] = blosc2.open(str(self.folder / f"{name}.b2nd"), mode="r", dparams={"nthreads": 1})
        return self._arrays[name]


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a D×H×W array that :class:`StoredCase` reads, small enough and, above all, soon unpacked.

    Raises:
        OSError: the disk is full or can't be written to.
    """
    import blosc2

    chunks = tuple(min(CHUNK, size) for size in array.shape)
    packed = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=chunks,
        blocks=tuple(min(BLOCK, size) for size in chunks),
        cparams={"codec": blosc2.Codec.LZ4HC, "clevel": 3, "nthreads": 1},
    )
    # Not through blosc2's own file, whose writing tells nothing of a full disk.
    with path.open("wb") as file:
        file.write(packed.to_cframe())
        file.flush()
        os.fsync(file.fileno())


def write_case(
    folder: Path,
    record: CaseRecord,
    image: NDArray[np.int16],
    label: NDArray[np.uint8] | None = None,
    distance: NDArray[np.int16] | None = None,
    axis: NDArray[np.uint8] | None = None,
    foreground: NDArray[np.int32] | None = None,
) -> None:
    """Fill ``folder``, which is not yet in its place, with a case; the arrays are those of :class:`StoredCase`."""
    arrays: dict[str, NDArray[Any] | None] = {
        "image": image, "label": label, "distance": distance, "axis": axis
    }  # fmt: skip
    for name, array in arrays.items():
        if array is not None:
            write_array(folder / f"{name}.b2nd", array)
    if foreground is not None:
        np.save(folder / "foreground.npy", foreground.astype(np.int32))
    write_json(folder / "record.json", record.to_dict())
