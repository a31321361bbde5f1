"""``python -m experiments`` is ``pansite``, and this is where the command begins."""

from __future__ import annotations

import sys
from typing import NoReturn

from experiments.signals import SIGNALS


def main() -> NoReturn:
    """Run the command and leave; signals are recorded before anything that takes long is imported.

    Not by ``sys.exit(command())``, which would be looked up before the command runs: W&B puts a function of its own in
    its place to learn the exit code, and would hold a run for finished that a signal has stopped.
    """
    SIGNALS.install()
    from experiments.cli import main as command

    code = command()
    sys.exit(code)


if __name__ == "__main__":
    main()
