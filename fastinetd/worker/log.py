"""Logs errors of handlers: to the daemon, or to syslog where standard error is the client's connection.

Theory. The standard error of a worker is a socket of the daemon, which logs each message; each write is a message, and
one for which there is no room is lost. A process that the daemon starts for one client has such a socket, too. Started
by another program, such a process has its client there, and logs to syslog.

Rules of this file: a line may contain what a client has sent, so its length is bounded and only text is let through;
nothing here raises.
"""

from __future__ import annotations

import io
import os
import sys
import syslog
from contextlib import suppress
from typing import Any

LINE_LENGTH = 2000
"""Characters of a line that are logged."""

TRACEBACK_LINES = 100
"""Lines of a traceback that are logged, half of its beginning and half of its end."""

MESSAGE_BYTES = 8000
"""Bytes beyond which a message is shortened: fewer than the daemon reads of one (8,192)."""


class _Daemon(io.RawIOBase):
    """Descriptor 2 as a file that never fails: a message is lost if the daemon has no room for it, or is gone."""

    def writable(self) -> bool:
        """True, for io.BufferedWriter."""
        return True

    def fileno(self) -> int:
        """The descriptor of standard error."""
        return 2

    def write(self, data: Any) -> int:
        """Send the first MESSAGE_BYTES bytes of `data`; returns the length of all of it."""
        with suppress(OSError):
            os.write(2, bytes(data)[:MESSAGE_BYTES])
        return len(data)


def print_to_the_daemon() -> None:
    """Make sys.stderr a file that sends messages to the daemon and never raises."""
    buffer = io.BufferedWriter(_Daemon(), MESSAGE_BYTES)
    sys.stderr = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)


def clients_only() -> bool:
    """Whether standard error is the file of standard input, as a client's connection is, or not open."""
    try:
        return os.path.sameopenfile(0, 2)
    except OSError:
        return True


def log(line: str, more: str = "", *, to_syslog: bool = False) -> None:
    """Log a line and the lines of `more`, to syslog or on descriptor 2."""
    lines = more.splitlines()
    if len(lines) > TRACEBACK_LINES:
        lines[TRACEBACK_LINES // 2 : -TRACEBACK_LINES // 2] = [f"({len(lines) - TRACEBACK_LINES} lines are left out)"]
    shown = [_escape_line(text) for text in [line, *lines]]
    if to_syslog:
        for text in shown:
            syslog.syslog(syslog.LOG_DAEMON | syslog.LOG_ERR, text)
        return
    while len(message := "\n".join(shown).encode()) > MESSAGE_BYTES and len(shown) > 2:
        del shown[len(shown) // 2]  # the middle: beginning and end of a traceback say most
    with suppress(OSError):
        os.write(2, message + b"\n")


def _escape_line(text: str) -> str:
    """At most LINE_LENGTH characters of a text, with escapes for those that are not printable."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:LINE_LENGTH])
    return "".join(escaped)[:LINE_LENGTH]
