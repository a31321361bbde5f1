"""Importing what a command needs, without the garbage collector going over what stays for as long as the process."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from types import ModuleType


def imported(name: str) -> ModuleType:
    """The module ``name``; where it is yet to be imported, nothing that is there by then is searched for cycles again.

    PyTorch, Lightning and MONAI bring many objects, and all of them stay. While they come, the collector would go over
    them again and again in vain; later it would do so in training, and loader processes, which are forked, would come
    to copies of the pages that they lie on.
    """
    if name in sys.modules:
        return import_module(name)  # by the import system all the same: another thread may be at it
    collecting = gc.isenabled()
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        if collecting:
            gc.enable()
