"""Draw the regions of a label at one or more training spacings.

    python -m experiments.regions LABEL.nii.gz --ids 1 --image CT.nii.gz --spacing 1 1.5 3 --output regions.png

The label goes the way of a training case: oriented, resampled, measured. Without an image the other ids of the label
file are drawn in greys.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.atomic import atomic_file
from datamodules.errors import UsageError


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        "python -m experiments.regions", description="Draw the regions of a label at one or more training spacings."
    )
    parser.add_argument("label", type=Path, metavar="LABEL", help="NIfTI file")
    parser.add_argument("--ids", type=int, nargs="+", default=[1], help="label ids of the pancreas (default 1)")
    parser.add_argument("--image", type=Path, help="CT on the label's grid: NIfTI file or DICOM series folder")
    parser.add_argument("--spacing", type=float, nargs="+", default=[1.5], help="training spacings, mm (default 1.5)")
    parser.add_argument("--stride", type=int, default=2, help="model.contrastive.stride (default 2)")
    parser.add_argument("--credit", default="", help="a line at the foot, as the data's licence may ask for")
    parser.add_argument("--output", type=Path, default=Path("regions.png"), help="PNG to write (default regions.png)")
    given = parser.parse_args(words)
    # Here, so that --help need not wait for torch.
    from experiments.regions.figure import draw
    from experiments.regions.measure import measure

    try:
        if min(*given.spacing, given.stride) <= 0:
            raise UsageError("--spacing and --stride must be above 0")
        found = [measure(given.label, given.ids, given.image, (s, s, s), given.stride) for s in given.spacing]
        _write(given.output, draw(found, given.credit))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(given.output)
    return 0


def _write(path: Path, png: bytes) -> None:
    try:
        with atomic_file(path, "wb") as file:
            file.write(png)
    except OSError as error:
        raise UsageError(f"--output: {path} can't be written ({error.strerror}); name another file") from error


if __name__ == "__main__":
    sys.exit(main())
