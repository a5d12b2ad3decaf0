"""What went wrong, for who runs the service: to the daemon, or to syslog where standard error is the client's.

Theory. A worker's standard error is a socket of the daemon's, which tells what comes by it in its own log (each write
is a message, and what there is no room for is lost), and so is that of a process which it starts for one client only.
Started by something else, such a process has its client there, so it says to syslog what it has to say.

Rules of this file: what a client has sent may be in it, so there is only so much, and only text; nothing here raises.
"""

from __future__ import annotations

import io
import os
import sys
import syslog
from contextlib import suppress
from typing import Any

LINE = 2000
"""Characters of a line, at most."""

LINES = 100
"""Lines of a traceback, at most, from its beginning and its end."""

MESSAGE = 8000
"""Bytes that the daemon takes as one message."""


class _Daemon(io.RawIOBase):
    """Descriptor 2 as a file that takes everything: what the daemon has no room for, or is not there for, is lost."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, data: Any) -> int:
        with suppress(OSError):
            os.write(2, bytes(data)[:MESSAGE])
        return len(data)


def print_to_the_daemon() -> None:
    """Standard error is the daemon's: printing there raises nothing, whatever becomes of the daemon."""
    buffer = io.BufferedWriter(_Daemon(), MESSAGE)
    sys.stderr = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)


def clients_only() -> bool:
    """Whether standard error is the same as standard input, a client's connection for one, or not open at all."""
    try:
        return os.path.sameopenfile(0, 2)
    except OSError:
        return True


def log(line: str, more: str = "", *, to_syslog: bool = False) -> None:
    """A line and further ones."""
    lines = more.splitlines()
    if len(lines) > LINES:
        lines[LINES // 2 : -LINES // 2] = [f"({len(lines) - LINES} lines are left out)"]
    shown = [_shown(text) for text in [line, *lines]]
    if to_syslog:
        for text in shown:
            syslog.syslog(syslog.LOG_DAEMON | syslog.LOG_ERR, text)
        return
    while len(message := "\n".join(shown).encode()) > MESSAGE and len(shown) > 2:
        del shown[len(shown) // 2]
    with suppress(OSError):
        os.write(2, message + b"\n")


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:LINE])[:LINE]
