"""When nobody has any more what a role that has ended had open.

Theory. A process that a role was just starting when it died has the role's descriptors until exec; before it has its
own copies of some it even has the same table (CLONE_FILES, core/spawn.h). So a role's sockets may be open for a while
after its death. Its control pipe is among what such a process has, and is closed with the rest; no other process has
its reading end, so the kernel tells the writing end (EPOLLERR) when the last of them is gone.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from fastinetd.system.loop import Loop

LONGEST = 12.0
"""Seconds: whoever has not come to exec is killed before (SPAWN_SECONDS in core/spawn.h)."""


def when_closed(loop: Loop, control: int, then: Callable[[], object]) -> None:
    """Call `then` once nobody has the reading end of the pipe `control` (taken; -1: closed before): at once if it is
    so already, after LONGEST at the latest."""
    if not _read_by_somebody(control):
        if control >= 0:
            os.close(control)
        then()
        return

    def gone(_: int = 0) -> None:
        timer.cancel()
        loop.unwatch(control)
        os.close(control)
        then()

    timer = loop.later(LONGEST, gone)
    loop.watch(control, gone, 0)  # EPOLLERR comes unasked


def _read_by_somebody(control: int) -> bool:
    """Whether a process has the other end of a pipe."""
    if control < 0:
        return False
    look = select.poll()
    look.register(control, 0)
    return not look.poll(0)
