"""How much memory there is, so that a volume that does not fit is refused by name and not by a killed process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datamodules.errors import UnreadableError

PER_VOXEL = 16
"""Bytes that preparation takes for a voxel of the file, beside the file's own: some copies in 32 bits."""
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def available_memory() -> int | None:
    """Bytes that this process can still have, by the system, its container and its job; None where nothing tells."""
    limits = [int(line.split()[1]) * 1024 for line in _lines(MEMINFO) if line.startswith("MemAvailable:")]
    return min([*limits, *_group_limits()], default=None)


def check_memory(path: Path, voxels: int, itemsize: int) -> None:
    """Refuse a file for whose voxels, of ``itemsize`` bytes, there is not the memory.

    Raises:
        UnreadableError: with both numbers; another time, or on another machine, there may be enough.
    """
    needed, free = voxels * (itemsize + PER_VOXEL), available_memory()
    if free is not None and needed > free:
        raise UnreadableError(f"{path} needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free")


def _group_limits() -> Iterator[int]:
    """Bytes left of each control group (v2) that this process is in: a container's is the root, a SLURM job's below."""
    own = next((line.removeprefix("0::/") for line in _lines(OWN_CGROUP) if line.startswith("0::/")), "")
    group = CGROUP / own
    for folder in [group, *group.parents]:
        most, used = ("".join(_lines(folder / f"memory.{name}")) for name in ("max", "current"))
        if most.isdigit() and used.isdigit():
            # What is cached of files is counted as used, and given up for whoever needs memory.
            cached = sum(int(line.split()[1]) for line in _lines(folder / "memory.stat") if "active_file " in line)
            yield max(0, int(most) - int(used) + cached)
        if folder == CGROUP:
            return


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
