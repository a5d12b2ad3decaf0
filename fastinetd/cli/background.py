"""Goes into the background, and prepares the descriptors with which a daemon begins.

Theory. The command waits until its daemon serves, or has logged why it cannot: the daemon writes the exit status to a
pipe. So the shell's prompt comes back with the result, and an init script can rely on connections being answered. A
program that waits for the end of the command's output (a pipe, `$(...)`, ssh) must not wait for the end of the daemon:
so the daemon gives up the standard descriptors before it forks anything, and keeps one copy of standard error, which no
other process gets, until it serves.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fastinetd.system.descriptors import FIRST_KEPT_DESCRIPTOR, lift_descriptor

_OOM_SCORE = Path("/proc/self/oom_score_adj")


def must_stay(environ: Mapping[str, str]) -> bool:
    """Whether this process must not leave the foreground.

    A service manager waits for its messages (sd_notify(3)), or a container ends with it. A unit or a container alone is
    no reason: a unit may have Type=forking.
    """
    return "NOTIFY_SOCKET" in environ or os.getpid() == 1


def prepare_descriptors() -> None:
    """Have 0, 1 and 2 open and close all other descriptors that were inherited.

    Raises OSError when /dev/null cannot be opened, also if it is not needed for this: servers need it later.
    """
    for descriptor in range(3):
        # Not inherited if close-on-exec: then a library has opened a file where one was closed, as libffi 3.5 does.
        with suppress(OSError):
            if not os.get_inheritable(descriptor):
                os.close(descriptor)
    os.closerange(3, 2**31 - 1)
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(null, True)
    os.close(null)


class Launch:
    """The fork into the background. In the foreground every method does nothing."""

    def __init__(self, *, background: bool) -> None:
        """Fork for the background; `parent` is True in the command, which has only to `wait`. Raises OSError."""
        self.parent = False
        self.errors = 2  # the descriptor for errors of the start
        self._pipe = -1
        self._daemon = -1
        if not background:
            return
        reader, writer = os.pipe2(os.O_CLOEXEC)
        if child := os.fork():
            os.close(writer)
            self.parent, self._pipe, self._daemon = True, reader, child
            return
        os.close(reader)
        os.setsid()
        self._pipe = lift_descriptor(writer)
        self.errors = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR)
        _redirect_to_null(0, 1, 2)
        if "INVOCATION_ID" not in os.environ:  # a unit's OOMScoreAdjust= is meant for the daemon
            _reset_oom_score()

    def wait(self) -> int:
        """The exit status, when the daemon serves (0) or has given up; to be called in the parent.

        SIGINT ends the daemon too: it is sent to the daemon, and this process ends by it when the daemon has ended.
        """
        try:
            status = os.read(self._pipe, 1)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second SIGINT ends this process at once
            os.kill(self._daemon, signal.SIGINT)
            os.waitpid(self._daemon, 0)
            signal.raise_signal(signal.SIGINT)
            raise  # reached only if SIGINT is blocked
        return status[0] if status else 1

    def ready(self) -> None:
        """Have the command end with status 0; to be called in the daemon when it serves.

        `errors` becomes /dev/null and is not closed: lines that could not be written to it yet must not go to a file
        that gets its number.
        """
        if self._pipe >= 0:
            _redirect_to_null(self.errors)
        self._send_status(0)

    def failed(self, status: int) -> None:
        """Have the command end with this status; to be called in the daemon when it gives up."""
        self._send_status(status)

    def _send_status(self, status: int) -> None:
        """Write the exit status to the command, once."""
        if self._pipe >= 0:
            with suppress(OSError):
                os.write(self._pipe, bytes([status]))
            os.close(self._pipe)
            self._pipe = -1


def _redirect_to_null(*descriptors: int) -> None:
    """Make descriptors /dev/null; those above 2 are close-on-exec."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        os.dup2(null, descriptor, inheritable=descriptor <= 2)
    os.close(null)


def _reset_oom_score() -> None:
    """Set oom_score_adj to 0: the daemon and its servers do not inherit that of a shell or an init script."""
    with suppress(OSError, ValueError):  # only root may lower it
        if int(_OOM_SCORE.read_text()):
            _OOM_SCORE.write_text("0")
