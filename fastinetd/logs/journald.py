"""Whether journald reads what the daemon writes, and what a line looks like where it does."""

from __future__ import annotations

import os
from collections.abc import Mapping

from fastinetd.logs.lines import Level

JOURNALD = "/run/systemd/journal/"
"""Where journald has its sockets."""


def is_journald_stream(fd: int, environ: Mapping[str, str]) -> bool:
    """Whether `fd` is the stream to journald that JOURNAL_STREAM (systemd.exec(5)) names by device and inode."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def is_journald_socket(path: str) -> bool:
    """Whether journald reads what is sent to the socket `path`, which is then a link into its folder."""
    return os.path.realpath(path).startswith(JOURNALD)


def with_priority(level: Level, text: str) -> str:
    """A line for journald's stream: it begins with its priority (sd-daemon(3))."""
    return f"<{int(level)}>{text}"


def stream_line(fd: int, level: Level, text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A line for standard output or error, whichever reads it: journald, a terminal, a pipe."""
    return with_priority(level, text) if is_journald_stream(fd, environ) else text
