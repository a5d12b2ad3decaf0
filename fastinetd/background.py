"""Into the background, and the descriptors a daemon begins with.

Theory. The command waits until its daemon serves, or has said why it cannot: the daemon's end of a pipe tells. So the
shell's prompt comes back with the truth, and an init script knows that connections are answered.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fastinetd.sockets import lift

_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


def must_stay(environ: Mapping[str, str]) -> bool:
    """Whether a service manager or a container looks after this process, so that it must not leave the foreground."""
    managed = "NOTIFY_SOCKET" in environ or "INVOCATION_ID" in environ or "container" in environ
    return managed or os.getpid() == 1 or os.getppid() == 0 or any(Path(mark).exists() for mark in _CONTAINER_MARKS)


def prepare_descriptors() -> None:
    """0, 1 and 2 are open, everything else that was inherited is closed."""
    os.closerange(3, 2**31 - 1)
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class Launch:
    """The way into the background. In the foreground every method does nothing."""

    def __init__(self, *, background: bool) -> None:
        self.parent = False
        self._pipe = -1
        if not background:
            return
        reader, writer = os.pipe2(os.O_CLOEXEC)
        if os.fork():
            os.close(writer)
            self.parent, self._pipe = True, reader
            return
        os.close(reader)
        os.setsid()
        self._pipe = lift(writer)

    def wait(self) -> int:
        """In the parent: the exit status, once the daemon serves (0) or has given up."""
        told = os.read(self._pipe, 1)
        return told[0] if told else 1

    def ready(self) -> None:
        """In the daemon: it serves. Its standard descriptors are nobody's any more."""
        if self._pipe < 0:
            return
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        if null > 2:
            os.close(null)
        self._tell(0)

    def failed(self, status: int) -> None:
        """In the daemon: it gives up."""
        self._tell(status)

    def _tell(self, status: int) -> None:
        if self._pipe >= 0:
            with suppress(OSError):
                os.write(self._pipe, bytes([status]))
            os.close(self._pipe)
            self._pipe = -1
