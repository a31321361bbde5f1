"""Every comparison with a peer, one after the other, each entered in RESULTS.md as it ends.

    python -m tests.benchmarks.all

Takes about 25 minutes on two cores that do nothing else; what else they do makes intervals wider and numbers worse.
"""

from __future__ import annotations

import subprocess
import sys
import time

ROWS = (
    "patches",
    "supervised_step",
    "method_step",
    "preprocess",
    "predict",
    "surface_metrics",
    "many_cases",
    "start",
    "limits",
)


def main() -> None:
    """Run all; the options are each benchmark's. What fails is told at the end."""
    failed = []
    for row in ROWS:
        begin = time.perf_counter()
        print(f"{row} …", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.benchmarks.{row}", *sys.argv[1:]], check=False).returncode:
            failed.append(row)
        print(f"{row}: {time.perf_counter() - begin:.0f} s\n", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
