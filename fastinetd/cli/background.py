"""Into the background, and the descriptors a daemon begins with.

Theory. The command waits until its daemon serves, or has said why it cannot: the daemon's end of a pipe tells. So the
shell's prompt comes back with the truth, and an init script knows that connections are answered. Whoever waits for the
end of the command's output (a pipe, `$(...)`, ssh) must not wait for the daemon's: so the daemon gives up the standard
descriptors before it forks anything, and keeps one copy of standard error, which no other process gets, until it
serves.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fastinetd.system.descriptors import FIRST_DESCRIPTOR, lift_descriptor

_OOM_SCORE = Path("/proc/self/oom_score_adj")


def must_stay(environ: Mapping[str, str]) -> bool:
    """Whether this process must not leave the foreground: a service manager waits for word from it (sd_notify(3)), or a
    container ends with it. That it runs in a container, or was started by a unit, says nothing (Type=forking)."""
    return "NOTIFY_SOCKET" in environ or os.getpid() == 1


def prepare_descriptors() -> None:
    """0, 1 and 2 are open, everything else that was inherited is closed. Raises OSError where there is no /dev/null,
    also if all three are open: what comes later needs it too."""
    for descriptor in range(3):
        # Nobody inherits what is close-on-exec: a library has opened a file where one was closed, as libffi 3.5 does.
        with suppress(OSError):
            if not os.get_inheritable(descriptor):
                os.close(descriptor)
    os.closerange(3, 2**31 - 1)
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(null, True)
    os.close(null)


class Launch:
    """The way into the background. In the foreground every method does nothing."""

    def __init__(self, *, background: bool) -> None:
        """Fork, if it is to be the background; the command goes on as `parent`. Raises OSError."""
        self.parent = False
        self.errors = 2  # where the start tells its errors
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
        self.errors = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
        _lead_nowhere(0, 1, 2)
        if "INVOCATION_ID" not in os.environ:
            _forget_oom_score()

    def wait(self) -> int:
        """In the parent: the exit status, once the daemon serves (0) or has given up. Who interrupts the command does
        not want what it has begun: the daemon is ended, and the command ends by the signal once that has ended too."""
        try:
            told = os.read(self._pipe, 1)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second time it waits for nothing any more
            os.kill(self._daemon, signal.SIGINT)
            os.waitpid(self._daemon, 0)
            signal.raise_signal(signal.SIGINT)
            raise  # it is blocked
        return told[0] if told else 1

    def ready(self) -> None:
        """In the daemon: it serves, and nothing of the launcher's is left open. The number of `errors` stays taken:
        what could not be written to it yet must not go to whatever is opened next."""
        if self._pipe >= 0:
            _lead_nowhere(self.errors)
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


def _lead_nowhere(*descriptors: int) -> None:
    """Make descriptors lead to /dev/null; those above 2 stay close-on-exec."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        os.dup2(null, descriptor, inheritable=descriptor <= 2)
    os.close(null)


def _forget_oom_score() -> None:
    """The launcher's oom_score_adj is not the daemon's nor its servers' (a unit's OOMScoreAdjust is meant for them)."""
    with suppress(OSError, ValueError):  # lowering it is root's
        if int(_OOM_SCORE.read_text()):
            _OOM_SCORE.write_text("0")
