"""What a step of the method takes beside a supervised one: two passes (dual_ssl), and its single-pass form.

    python -m tests.benchmarks.method_step

By ``step_cost.py``, with the default network and two patches of 96³ a batch.
"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.results import Line, Scale, at_most, present
from tests.benchmarks.turns import Ratio

TITLE = "A step of the method beside a supervised one"
SMALL = ["--filters", "4,8,16", "--patch", "32", "--spacing", "3", "--pairs", "4"]
REAL = ["--filters", "32,64,128,256,320", "--patch", "96", "--spacing", "1.5", "--pairs", "7"]


def measure(scale: Scale) -> list[Line]:
    """Time and memory."""
    answer = scale.scratch / "steps.json"
    command = ["-m", "tests.benchmarks.step_cost", "--threads", str(scale.threads), "--json", str(answer)]
    sizes = SMALL if scale.quick else REAL
    subprocess.run(
        [sys.executable, *command, "--variant", "dual", "single_pass", *sizes], check=True, stdout=sys.stderr
    )
    steps = json.loads(answer.read_text("utf-8"))
    base, lines = steps["supervised"], []
    for name, told, target in (("dual", "dual_ssl", 2.0), ("single_pass", "single pass", 1.25)):
        ratio = Ratio(steps[name]["ratio"], *steps[name]["interval"])
        absolute = f"{steps[name]['ms']:.0f} ms, {base['ms']:.0f} ms"
        lines.append(at_most(f"{told}, time", "our supervised step", ratio, target, absolute))
        held = f"{steps[name]['mib']:.0f} MiB, {base['mib']:.0f} MiB"
        lines.append(at_most(f"{told}, memory", "our supervised step", steps[name]["mib"] / base["mib"], target, held))
    return lines


if __name__ == "__main__":
    present("method_step", TITLE, __doc__, measure)
