"""What a result depends on beside its configuration: packages, commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "pansite", "pytorch-lightning", "torch", "monai", "torchio", "omegaconf", "numpy", "scipy", "nibabel",
    "SimpleITK", "blosc2", "wandb",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Packages, git commit, Python and hardware of this process, as plain containers."""
    import torch

    cuda = torch.cuda
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "git": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"count": os.cpu_count(), "threads": torch.get_num_threads(), "capability": _capability()},
        "gpus": [cuda.get_device_name(i) for i in range(cuda.device_count())] if cuda.is_available() else [],
    }


def commit() -> dict[str, Any] | None:
    """``commit`` of the checkout that this software runs from, and whether files are ``changed``; None outside one."""
    return _commit(Path(__file__).resolve().parent)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _capability() -> str:
    import torch

    return str(torch.backends.cpu.get_cpu_capability())


def _commit(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout that ``folder`` lies in, and whether files differ from it; None outside one."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
