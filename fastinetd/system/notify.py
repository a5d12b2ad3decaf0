"""The daemon's messages to its service manager: sd_notify(3) and sd_watchdog_enabled(3).

Without a service manager nothing is sent. The variables of the protocols are removed from the environment, so that no
server can speak for the daemon.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping


class Notifier:
    """Sends the state of the daemon to the service manager. Nothing here raises or waits.

    `trouble` says why it cannot, with the remedy, where that is known at once; else it is None.
    """

    def __init__(
        self,
        environ: MutableMapping[str, str] = os.environ,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Remove the protocols' variables from `environ`. `clock` returns CLOCK_MONOTONIC in nanoseconds."""
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        self._taken = {name: value for name in names if (value := environ.pop(name, None)) is not None}
        self._clock = clock
        path = self._taken.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        self.trouble: str | None = None
        if path[:1] in ("@", "/"):
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            try:
                self._socket = socket.socket(socket.AF_UNIX, kind)
            except OSError as error:
                self.trouble = (f"the service manager hears nothing of this daemon: {error.strerror}; allow it unix "
                                "sockets (RestrictAddressFamilies=AF_UNIX of the unit)")

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two calls of `send_watchdog`, half of what the manager allows; None without a watchdog."""
        usec, pid = self._taken.get("WATCHDOG_USEC", ""), self._taken.get("WATCHDOG_PID", "")
        if self._socket is None or not _is_positive(usec) or (pid and pid != str(os.getpid())):
            return None
        return int(usec) / 2e6

    def send_ready(self, status: str) -> bool:
        """Send READY=1, after the start and after each reload, with a line for people; returns whether it was sent."""
        return self._send("READY=1", f"STATUS={status}")

    def send_reloading(self) -> bool:
        """Send RELOADING=1, at the begin of a reload; returns whether it was sent."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={self._clock() // 1000}")

    def send_stopping(self) -> bool:
        """Send STOPPING=1, at the begin of the end; returns whether it was sent."""
        return self._send("STOPPING=1")

    def send_watchdog(self) -> bool:
        """Send WATCHDOG=1, as a sign that the loop turns; returns whether it was sent."""
        return self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> bool:
        """Send one message of these lines; returns whether it was sent."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True


def _is_positive(text: str) -> bool:
    """Whether a text is a number above 0, of at most 18 ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0
