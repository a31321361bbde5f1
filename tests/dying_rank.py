"""The command, of which one rank comes to harm: ``python dying_rank.py RANK HARM METHOD MARK WORD…``.

The harm (``kill``, ``freeze``, ``raise`` or ``complain``) befalls the rank at its second call of a method of the
module; the time of it is written to the file MARK. Ranks that the first one starts run this same script.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def arrange(rank: str, harm: str, method: str, mark: Path) -> None:
    """Let a rank come to harm, if this process is that rank."""
    from lightning_modules.dual_ssl import DualSSLModule

    if os.environ.get("LOCAL_RANK", "0") != rank:
        return
    original = getattr(DualSSLModule, method)
    calls = 0

    def harmed(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            mark.write_text(str(time.time()))
            _come_to(harm)
        return original(*arguments, **keywords)

    setattr(DualSSLModule, method, harmed)


def _come_to(harm: str) -> None:
    if harm == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if harm == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if harm == "raise":
        raise ValueError("a fault of its own")
    if harm == "complain":
        from datamodules.errors import UsageError

        raise UsageError("a mistake of its own")


if __name__ == "__main__":
    rank, harm, method, mark, *words = sys.argv[1:]
    arrange(rank, harm, method, Path(mark))
    from experiments.cli import main

    sys.exit(main(words))
