"""The library that holds programs (stage.c), as the acceptors hand it to zygotes: an open descriptor.

Zygotes load it by that descriptor and not by its path, so it makes no difference whether their users may look into the
folder where the daemon is installed, and what an upgrade puts there.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from fastinetd.system.descriptors import lift_descriptor


@cache
def library_descriptor() -> int:
    """The library's descriptor, opened once and kept; -1 on a machine that has none."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_stage{suffix}")
        if path.exists():
            return lift_descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    return -1
