"""Standard error of the daemon, which may be a terminal, a pipe that nobody reads, or journald's stream."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from fastinetd.logs.sink import ATOMIC_BYTES, Report, Sink, utf8_of, write_each, write_without_waiting


class StderrSink(Sink):
    """Standard error (borrowed). It is not made non-blocking: that would change it for every process that shares it."""

    def __init__(self, fd: int, clock: Callable[[], float], report: Report, note: Callable[[int], str]) -> None:
        super().__init__("standard error", clock, report, note)
        self._fd = fd
        self._rest = b""  # of a line that was written in part

    def _unfinished(self) -> bool:
        return bool(self._rest)

    def _write(self, entries: Sequence[str]) -> int:
        if self._rest:
            self._rest = self._rest[write_without_waiting(self._fd, self._rest) :]
        return write_each(entries, self._write_line)

    def _write_line(self, line: str) -> None:
        """Write a line, cut to what a pipe takes at once. Raises BlockingIOError if one before is not written yet."""
        if self._rest:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        data = utf8_of(line)
        if len(data) > ATOMIC_BYTES:
            data = data[: ATOMIC_BYTES - 1] + b"\n"
        self._rest = data[write_without_waiting(self._fd, data) :]
