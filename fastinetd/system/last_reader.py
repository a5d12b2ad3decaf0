"""Waits until no process has the reading end of a pipe any more.

Theory. A process that a role was starting when the role died has the role's descriptors until exec, and before it has
copies of its own it even shares the role's table (CLONE_FILES, core/spawn.h). So sockets of a role may be open for a
while after its death. The reading end of the role's control pipe is among the descriptors of such a process and is
closed with the rest; no other process has it. So when the kernel reports EPOLLERR at the writing end, the last process
with the role's sockets has closed them.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from fastinetd.system.loop import Loop

CLOSED_WITHIN = 12.0
"""Seconds: a process that has not come to exec is killed before (SPAWN_SECONDS in core/spawn.h)."""


def call_after_last_reader(loop: Loop, writer: int, then: Callable[[], object]) -> None:
    """Call `then` once no process has the reading end of the pipe with this writing end, after CLOSED_WITHIN at most.

    Takes `writer`, and closes it before `then` is called. With -1, a pipe that was closed before, and without a reader
    `then` is called at once.
    """
    if not _has_reader(writer):
        if writer >= 0:
            os.close(writer)
        then()
        return

    def finish(_: int = 0) -> None:
        """Close the pipe and call `then`, on EPOLLERR or when the timer has run out."""
        timer.cancel()
        loop.unwatch(writer)
        os.close(writer)
        then()

    timer = loop.later(CLOSED_WITHIN, finish)
    loop.watch(writer, finish, 0)  # no event is asked for: the kernel reports EPOLLERR in any case


def _has_reader(writer: int) -> bool:
    """Whether a process has the reading end of the pipe with this writing end; False for -1."""
    if writer < 0:
        return False
    poll = select.poll()
    poll.register(writer, 0)
    return not poll.poll(0)  # no event is asked for: POLLERR comes in any case
