"""The peers' own environment: nnU-Net v2 and MONAI from PyPI, apart from Pansite's packages, in a folder git ignores.

    python -m tests.benchmarks.peers      # builds it, or says that it is there

The benchmarks call this themselves. PyTorch is the constraints' own, the very version that Pansite is measured with.
nnU-Net's transformer networks want timm and with it torchvision; no benchmark uses them, so that neither is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

from datamodules.atomic import write_json

HOUSE = Path(__file__).resolve().parents[2]
FOLDER = HOUSE / "build" / "peers"
"""``make clean`` takes it away."""
ALONE = ("nnunetv2==2.8.1", "dynamic-network-architectures==0.4.4")
"""Installed without what they ask for."""
WITH = (
    "acvl-utils", "batchgenerators", "batchgeneratorsv2", "blosc2", "einops", "graphviz", "imagecodecs", "matplotlib",
    "monai>=1.6,<1.7", "nibabel", "numpy", "pandas", "requests", "scikit-image", "scikit-learn", "scipy", "seaborn",
    "SimpleITK", "tifffile", "torch", "tqdm", "yacs",
)  # fmt: skip
NAMED = ("nnunetv2", "batchgeneratorsv2", "monai", "torch", "numpy")
"""Whose versions stand beside the results."""


def python() -> Path:
    """The environment's interpreter; built at the first call, which takes minutes."""
    found = FOLDER / "bin" / "python"
    wanted = {"alone": list(ALONE), "with": list(WITH), "constraints": (HOUSE / "constraints.txt").read_text("utf-8")}
    ready = FOLDER / "ready.json"
    if ready.is_file() and json.loads(ready.read_text("utf-8")) == wanted:
        return found
    print(f"building the peers' environment in {FOLDER}", file=sys.stderr)
    venv.create(FOLDER, with_pip=True, clear=True)
    pip = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", str(HOUSE / "constraints.txt")]
    subprocess.run([*pip, *constraints, *WITH], check=True)
    subprocess.run([*pip, "--no-deps", *ALONE], check=True)
    write_json(ready, wanted)
    return found


def versions() -> dict[str, str]:
    """Versions of :data:`NAMED` in the peers' environment."""
    code = f"from importlib.metadata import version as v; import json; print(json.dumps({{n: v(n) for n in {NAMED}}}))"
    told = subprocess.run([str(python()), "-c", code], capture_output=True, text=True, check=True).stdout
    return {name: str(version) for name, version in json.loads(told).items()}


if __name__ == "__main__":
    print(python())
