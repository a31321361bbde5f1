"""How a measure is written at the head of a column and in its cells, whichever measures an evaluation has."""

from __future__ import annotations

from dataclasses import dataclass

_UNITS = {"ml": "ml", "mm": "mm", "hu": "HU", "percent": "%"}
_DIGITS = {"ml": 1, "mm": 1, "HU": 0, "%": 0}


@dataclass(frozen=True)
class Column:
    """A measure's column.

    Attributes:
        name: of the measure.
        label: at its head.
        unit: below it; empty for none.
        digits: behind the point.
    """

    name: str
    label: str
    unit: str
    digits: int


_KNOWN = {
    column.name: column
    for column in (
        Column("dice", "Dice", "", 3),
        Column("nsd", "NSD", "", 3),
        Column("hd95", "HD95", "mm", 1),
        Column("assd", "ASSD", "mm", 2),
        Column("volume_ml", "Volume", "ml", 1),
        Column("reference_volume_ml", "Label’s volume", "ml", 1),
        Column("band_dice", "Band Dice", "", 3),
        Column("ece", "ECE", "", 3),
        Column("pixel_mm", "Pixel", "mm", 2),
        Column("slice_mm", "Slice thickness", "mm", 1),
        Column("ring_hu", "HU around the pancreas", "HU", 0),
        Column("contrast_hu", "HU above what is around", "HU", 0),
    )
}


def column(name: str) -> Column:
    """The column of a measure; one that is not known by name is called by it, its last word being the unit."""
    if name in _KNOWN:
        return _KNOWN[name]
    *words, last = name.split("_")
    unit = _UNITS.get(last, "")
    label = " ".join(words if unit and words else [*words, last])
    return Column(name, label[:1].upper() + label[1:], unit, _DIGITS.get(unit, 3))
