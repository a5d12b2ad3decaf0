"""What passes between the daemon and its service manager: sd_notify(3), sd_watchdog_enabled(3),
sd_listen_fds(3).

Without a service manager everything here does nothing. The variables of the protocols are taken out of the
environment, so that no server can speak for the daemon; `environment` gives them back for a re-execution in
place.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, MutableMapping

_LISTEN_START = 3  # SD_LISTEN_FDS_START


class Notifier:
    """Tells the service manager how the daemon is doing. Nothing here raises or waits."""

    def __init__(
        self,
        environ: MutableMapping[str, str] = os.environ,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Take the protocol's variables out of `environ`. `clock` is CLOCK_MONOTONIC in nanoseconds."""
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        self._taken = {name: value for name in names if (value := environ.pop(name, None)) is not None}
        self._clock = clock
        path = self._taken.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        if path[:1] in ("@", "/"):
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two calls of `watchdog`, half of what the manager allows; None: it does not
        watch.
        """
        usec, pid = self._taken.get("WATCHDOG_USEC", ""), self._taken.get("WATCHDOG_PID", "")
        if self._socket is None or not _number(usec) or (pid and pid != str(os.getpid())):
            return None
        return int(usec) / 2e6

    def ready(self, status: str = "") -> bool:
        """The daemon serves: after the start, and after each `reloading`. Returns whether the manager was
        told.
        """
        return self._send("READY=1", *_status(status))

    def reloading(self) -> bool:
        return self._send("RELOADING=1", f"MONOTONIC_USEC={self._clock() // 1000}")

    def stopping(self, status: str = "") -> bool:
        return self._send("STOPPING=1", *_status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(*_status(text))

    def watchdog(self) -> bool:
        """The daemon's loop turns."""
        return self._send("WATCHDOG=1")

    def environment(self) -> dict[str, str]:
        """The variables taken at the start, for the environment of the program that replaces this one."""
        return dict(self._taken)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> bool:
        if self._socket is None or not lines:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def inherited_listeners(environ: MutableMapping[str, str] = os.environ) -> list[int]:
    """The listening sockets a service manager opened for this process; the caller takes them.

    They are made close-on-exec. The list ends at the first that is not open; a LISTEN_PID that is another
    process's means that none of them is ours.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not _number(count):
        return []
    found = []
    for fd in range(_LISTEN_START, _LISTEN_START + int(count)):
        try:
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        except OSError:
            break
        found.append(fd)
    return found


def _number(text: str) -> bool:
    """A number above 0 of a size that makes sense, in ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0


def _status(text: str) -> list[str]:
    """A STATUS assignment; line ends would begin another assignment."""
    return [f"STATUS={' '.join(text.splitlines())}"] if text else []
