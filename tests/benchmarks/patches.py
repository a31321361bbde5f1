"""How many augmented patches of 96³ a second come to the training step, from CTs of 512×512×200, with two processes.

    python -m tests.benchmarks.patches

Pansite's data module with its standard augmentation beside nnU-Net's loader with its own transforms by
batchgeneratorsv2, and MONAI's PersistentDataset with transforms like Pansite's. Each has two loader processes of one
thread, which augment too, and all the same cores. All take patches around the organ as often, two to a batch, one of
a case; nothing is mirrored. Pansite reads the organ's structure maps with every patch, which the others do not have.
"""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from tests.benchmarks.made import SHAPE, SMALL, write_ct, write_manifest
from tests.benchmarks.results import Line, Scale, at_least, present
from tests.benchmarks.turns import Ratio, Side, by_turns

TITLE = "Patches into the training step"
SPACING = (0.8, 0.8, 1.5)
NAMES = ["a", "b", "c", "d"]
"""The last one is not trained on."""
WORKERS = 2


def measure(scale: Scale) -> list[Line]:
    """Patches a second."""
    raw = scale.scratch
    for seed, name in enumerate(NAMES):
        write_ct(raw, name, SMALL if scale.quick else SHAPE, SPACING, seed)
    batches = 4 if scale.quick else 20
    told = {
        "names": NAMES, "raw": str(raw), "manifest": str(write_manifest(raw, NAMES)), "spacing": SPACING,
        "patch": [48 if scale.quick else 96] * 3, "workers": WORKERS, "batches": batches, "scratch": str(raw),
        "threads": scale.threads,
    }  # fmt: skip
    slower = {"batches": max(2, batches // 8), "folder": str(raw / "monai")}
    with ExitStack() as stack:
        sides = [
            stack.enter_context(Side("ours_patches", {**told, "folder": str(raw / "ours")}, threads=scale.threads)),
            stack.enter_context(Side("monai_patches", {**told, **slower}, scale.peers())),
        ]
        if scale.nnunet:
            sides.append(stack.enter_context(Side("nnunet_patches", told, scale.peers())))
        turns = by_turns(sides, 2 if scale.quick else 7)
    taken = {name: slower["batches"] if name == "monai_patches" else batches for name in turns.seconds}
    rates = {name: [2 * taken[name] / each for each in seconds] for name, seconds in turns.seconds.items()}
    ours = rates["ours_patches"]
    lines = []
    for name, peer, target in (("nnunet_patches", "nnU-Net", 1.5), ("monai_patches", "MONAI PersistentDataset", 3.0)):
        if name in rates:
            told_rates = f"{median(ours):.1f} and {median(rates[name]):.1f} patches/s"
            lines.append(at_least("patches/s", peer, Ratio.of(ours, rates[name]), target, told_rates))
    return lines


if __name__ == "__main__":
    present("patches", TITLE, __doc__, measure)
