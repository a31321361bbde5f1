"""How much memory there is, so that a volume that does not fit is refused by name and not by a killed process."""

from __future__ import annotations

from pathlib import Path

from datamodules.errors import UnreadableError

PER_VOXEL = 16
"""Bytes that preparation takes for a voxel of the file, beside the file's own: some copies in 32 bits."""
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes that this process can still have, by the system and by its container; None where nothing tells."""
    limits = [int(line.split()[1]) * 1024 for line in _lines(MEMINFO) if line.startswith("MemAvailable:")]
    most, used = ("".join(_lines(CGROUP / f"memory.{name}")) for name in ("max", "current"))
    if most.isdigit() and used.isdigit():
        # What is cached of files is counted as used, and given up for whoever needs memory.
        cached = sum(int(line.split()[1]) for line in _lines(CGROUP / "memory.stat") if "active_file " in line)
        limits.append(max(0, int(most) - int(used) + cached))
    return min(limits, default=None)


def check_memory(path: Path, voxels: int, itemsize: int) -> None:
    """Refuse a file for whose voxels, of ``itemsize`` bytes, there is not the memory.

    Raises:
        UnreadableError: with both numbers; another time, or on another machine, there may be enough.
    """
    needed, free = voxels * (itemsize + PER_VOXEL), available_memory()
    if free is not None and needed > free:
        raise UnreadableError(f"{path} needs about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
