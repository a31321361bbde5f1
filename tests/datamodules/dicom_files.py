"""DICOM files made by pydicom, slice by slice, with whatever is odd about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

ROWS, COLUMNS = 12, 16
Change = Callable[[Dataset, int], None]
"""What is changed of a slice, which is told its number."""


def straight(number: int, step: float = 2.0) -> list[tuple[float, float, float]]:
    """Positions in LPS mm of so many slices, each ``step`` above the last."""
    return [(-3.0, 7.0, 10.0 + step * k) for k in range(number)]


def dicom_slice(position: Sequence[float], number: int, uid: str = "1.2.3", **tags: Any) -> Dataset:
    """A slice of an axial CT of 16×12 pixels of 0.8×0.9 mm, of 500 + 2·number HU, with slope 2 and intercept −1024."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{number + 1}"
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": f"{uid}.{number + 1}", "StudyInstanceUID": "9.9",
        "SeriesInstanceUID": uid, "SeriesDescription": f"series {uid}", "Modality": "CT", "PatientID": "p",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "InstanceNumber": number + 1, "SliceThickness": 2.0,
        "ImagePositionPatient": list(position), "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.9, 0.8], "Rows": ROWS, "Columns": COLUMNS, "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
        "PixelRepresentation": 0, "RescaleIntercept": -1024, "RescaleSlope": 2,
    }  # fmt: skip
    values.update(tags)
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    if "PixelData" not in tags:
        stored = np.full((dataset.Rows, dataset.Columns), 762 + number, np.uint16)
        dataset.PixelData = stored.tobytes()
    return dataset


def dicom_series(
    folder: Path,
    positions: Sequence[Sequence[float]],
    uid: str = "1.2.3",
    change: Change | None = None,
    compressed: bool = False,
    **tags: Any,
) -> Path:
    """Write a series into a folder; tags of None are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, position in enumerate(positions):
        dataset = dicom_slice(position, number, uid, **tags)
        if change is not None:
            change(dataset, number)
        if compressed:
            dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(folder / f"{uid}_{number:03}.dcm", enforce_file_format=True)
    return folder
