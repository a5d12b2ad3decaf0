"""What passes between the daemon and its service manager: sd_notify(3) and sd_watchdog_enabled(3).

Without a service manager everything here does nothing. The variables of the protocols are taken out of the
environment, so that no server can speak for the daemon.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping


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

    def ready(self, status: str) -> bool:
        """The daemon serves: after the start, and after each `reloading`. `status` is one line for people. Returns
        whether the manager was told.
        """
        return self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> bool:
        return self._send("RELOADING=1", f"MONOTONIC_USEC={self._clock() // 1000}")

    def stopping(self) -> bool:
        return self._send("STOPPING=1")

    def watchdog(self) -> bool:
        """The daemon's loop turns."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def _number(text: str) -> bool:
    """A number above 0 of a size that makes sense, in ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0
