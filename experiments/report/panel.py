"""Panels of a training for the report's page, as small JPEGs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from datamodules.errors import UsageError

QUALITY = 80
"""Of the JPEG: a fifth of the picture's size, and nothing is missed."""


@dataclass(frozen=True)
class BatchShown:
    """A panel.

    Attributes:
        title: its step.
        description: its columns and rows, for those who can't see it.
        width: pixels.
        height: pixels.
        jpeg: the picture in base64.
    """

    title: str
    description: str
    width: int
    height: int
    jpeg: str


def batches_shown(paths: Sequence[Path]) -> list[BatchShown]:
    """The last picture, and from the beginning and the middle of the training what there is beside it.

    Args:
        paths: in the order of their steps.

    Raises:
        UsageError: one of them can't be read.
    """
    places = dict.fromkeys((len(paths) - 1, (len(paths) - 1) // 2, 0)) if paths else {}
    return [_shown(paths[place]) for place in places]


def _shown(path: Path) -> BatchShown:
    jpeg = io.BytesIO()
    try:
        with Image.open(path) as picture:
            told = dict(picture.info)
            picture.convert("RGB").save(jpeg, format="JPEG", quality=QUALITY)
            width, height = picture.size
    except (OSError, SyntaxError) as error:  # the latter is what Pillow finds wrong with a PNG
        raise UsageError(f"{path}: is no picture that can be read ({error}); remove it.") from error
    encoded = base64.b64encode(jpeg.getvalue()).decode("ascii")
    return BatchShown(str(told.get("Title", path.stem)), str(told.get("Description", "")), width, height, encoded)
