"""Where log lines go, and what happens to them while they cannot go there.

Theory. A sink is one destination: a file, syslog, or standard error. Lines are put into its spool and
written from there, in order, at once if possible. When the destination fails (a full disk, a vanished
folder, no syslog daemon, a reader that has stopped reading) the sink pauses, for 50 ms at first and twice
as long each time up to 5 seconds; the spool keeps the newest 10,000 lines, older ones are lost and counted.
The first thing written afterwards is how many were lost. Trouble is reported once, when it begins, and so
is its end.

Rules of this file
 - No method raises for what a destination does, and none waits for it.
 - A call writes at most CHUNK lines, so that catching up never stops the loop that calls it.
 - A report may come back as a line for the same sink: it is noted with `_tell` and made by `_speak`, last
   of all.
 - Descriptors are close-on-exec and belong to their sink.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice

from fastinetd.logs.lines import Level, error_text

ROOM = 10_000
"""Lines a sink keeps while they cannot be written."""

CHUNK = 5_000
"""Lines written in one call."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds between two attempts on a destination in trouble."""

BUSY_PAUSE, LONGEST_BUSY = 0.001, 0.1
"""Seconds between two attempts on one that is only slow: a syslog socket's queue may hold no more than ten
lines.
"""

QUIET = 60.0
"""Seconds between two reports of trouble from one sink, so that a destination that comes and goes is no
flood.
"""

ATOMIC = 4096  # PIPE_BUF of Linux: a pipe that poll(2) calls writable takes this much without blocking
_DATAGRAM = 8000  # bytes of a syslog line, below any receive buffer
_BUSY = (errno.EAGAIN, errno.ENOBUFS)  # flow control rather than trouble
_DISCONNECTED = (errno.ECONNREFUSED, errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET)

Report = Callable[[Level, str], None]


def encoded(text: str) -> bytes:
    """UTF-8 that never fails: what cannot be encoded becomes an escape."""
    return text.encode("utf-8", "backslashreplace")


class Sink(ABC):
    """A destination of lines. `lost` counts those that never got there."""

    def __init__(self, name: str, clock: Callable[[], float], report: Report, note: Callable[[int], str]) -> None:
        """`clock` is monotonic, in seconds; `note` makes the line that tells how many were lost."""
        self.name = name
        self.lost = 0
        self._clock = clock
        self._report = report
        self._note = note
        self._spool: deque[str] = deque()
        self._unsaid = 0  # lost, and the log does not tell yet
        self._pause = 0.0  # seconds; 0: no trouble
        self._due = 0.0  # when the next attempt may be made
        self._told = False  # this trouble has been reported
        self._told_at = float("-inf")
        self._told_loss = False
        self._reports: list[tuple[Level, str]] = []

    @abstractmethod
    def _write(self, lines: Sequence[str]) -> int:
        """Write lines, and what an earlier call left unfinished; return how many are done with. OSError:
        none.
        """

    def _unfinished(self) -> bool:
        """Whether part of a line that counts as done is still to be written."""
        return False

    def descriptor(self) -> int:
        """The sink's descriptor (borrowed), or -1."""
        return -1

    def reopen(self) -> None:
        """Open the destination again, where that means something, and try to write what is kept."""
        self._due = 0.0
        self.flush()

    def close(self) -> None:
        """One last attempt to write what is kept, whatever the pause; the rest is lost."""
        self._due = 0.0
        while self.flush() == 0.0:
            pass
        self.lost += len(self._spool)
        self._spool.clear()

    def put(self, lines: Iterable[str]) -> None:
        """Take lines (each in the destination's own shape) and write them if that is possible now."""
        self._spool.extend(lines)
        if self._pause and self._clock() < self._due:
            self._trim()
            self._speak()
        else:
            self.flush()

    def flush(self) -> float | None:
        """Write what is kept if it is time to; return the seconds until the next call, None if nothing is
        kept.
        """
        if not (self._spool or self._unfinished()):
            return None
        now = self._clock()
        if now < self._due:
            return self._due - now
        try:
            self._write_some()
        except OSError as error:
            self._failed(error)
        else:
            self._succeeded()
        self._speak()
        if not (self._spool or self._unfinished()):
            return None
        return max(0.0, self._due - self._clock())

    def _write_some(self) -> None:
        budget = CHUNK
        while budget > 0 and (self._spool or self._unfinished()):
            batch = list(islice(self._spool, budget))
            if self._unsaid:
                batch.insert(0, self._note(self._unsaid))
            done = self._write(batch)
            if self._unsaid and done:
                self._unsaid = 0
                done -= 1
            if done:
                self._pause = 0.0
            budget -= max(1, done)
            if done == len(self._spool):
                self._spool.clear()
            else:
                for _ in range(done):
                    self._spool.popleft()

    def _tell(self, level: Level, text: str) -> None:
        self._reports.append((level, text))

    def _speak(self) -> None:
        if self._reports:
            reports, self._reports = self._reports, []
            for level, text in reports:
                self._report(level, text)

    def _trim(self) -> None:
        """Lose the oldest lines beyond ROOM."""
        excess = len(self._spool) - ROOM
        if excess <= 0:
            return
        for _ in range(excess):
            self._spool.popleft()
        self.lost += excess
        self._unsaid += excess
        if self._told and not self._told_loss:
            self._told_loss = True
            self._tell(Level.ERROR, f"{self.name}: only the newest {ROOM} records are kept, older ones are lost")

    def _failed(self, error: OSError) -> None:
        busy = error.errno in _BUSY
        first, longest = (BUSY_PAUSE, LONGEST_BUSY) if busy else (FIRST_PAUSE, LONGEST_PAUSE)
        self._pause = min(longest, max(first, self._pause * 2))
        now = self._clock()
        self._due = now + self._pause
        new = not busy and not self._told and now - self._told_at >= QUIET
        if new:
            self._told, self._told_at = True, now
        self._trim()
        if new:
            why = f"{self._reason(error)}; {self._remedy(error)}"
            self._tell(Level.ERROR, f"cannot write {self.name}: {why}up to {ROOM} records are kept meanwhile")

    def _reason(self, error: OSError) -> str:
        return error_text(error.errno)

    def _remedy(self, error: OSError) -> str:
        """What to do about it, with "; " at its end; "" where the reason says as much."""
        return ""

    def _succeeded(self) -> None:
        self._pause = self._due = 0.0
        told, self._told, self._told_loss = self._told, False, False
        self._trim()
        if told:
            self._tell(Level.NOTICE, f"{self.name} can be written again")


class SyslogSink(Sink):
    """The syslog daemon's socket, syslog(3): datagrams; lines ended by NUL where it is a stream."""

    def __init__(self, path: str, clock: Callable[[], float], report: Report, note: Callable[[int], str]) -> None:
        super().__init__(f"syslog ({path})", clock, report, note)
        self._path = path
        self._socket: socket.socket | None = None
        self._stream = False
        self._rest = b""  # of a line that a stream took in part

    def descriptor(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def reopen(self) -> None:
        self._disconnect()
        super().reopen()

    def close(self) -> None:
        super().close()
        self._disconnect()

    def _unfinished(self) -> bool:
        return bool(self._rest)

    def _remedy(self, error: OSError) -> str:
        if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            return ""
        return "start a syslog daemon, or write to a file (-filelog FILE; of services log_type = FILE PATH); "

    def _write(self, lines: Sequence[str]) -> int:
        self._send(b"")
        for done, line in enumerate(lines):
            try:
                self._send(encoded(line)[:_DATAGRAM])
            except OSError:
                if done == 0:
                    raise
                return done
        return len(lines)

    def _send(self, data: bytes) -> None:
        try:
            self._send_once(data)
        except OSError as error:
            if error.errno not in _DISCONNECTED:
                raise
            self._disconnect()
            self._send_once(data)  # a syslog daemon that was restarted listens on a new socket

    def _send_once(self, data: bytes) -> None:
        to = self._socket or self._connect()
        if self._rest:
            self._rest = self._rest[to.send(self._rest) :]
            if self._rest:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if data:
            data += b"\0" if self._stream else b""
            self._rest = data[to.send(data) :]

    def _connect(self) -> socket.socket:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                made.connect(self._path)
            except OSError as error:
                made.close()
                if error.errno != errno.EPROTOTYPE or kind == socket.SOCK_STREAM:
                    raise
            else:
                self._socket, self._stream = made, kind == socket.SOCK_STREAM
                return made
        raise AssertionError("not reached")

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._rest = b""


class StderrSink(Sink):
    """Standard error (borrowed), asked with poll(2) before each write.

    Making it non-blocking instead would change it for every process that shares it.
    """

    def __init__(self, fd: int, clock: Callable[[], float], report: Report, note: Callable[[int], str]) -> None:
        super().__init__("standard error", clock, report, note)
        self._fd = fd
        self._rest = b""

    def _unfinished(self) -> bool:
        return bool(self._rest)

    def _write(self, lines: Sequence[str]) -> int:
        if self._rest:
            self._rest = self._rest[self._write_once(self._rest) :]
        for done, line in enumerate(lines):
            data = encoded(line)
            if len(data) > ATOMIC:
                data = data[: ATOMIC - 1] + b"\n"
            try:
                if self._rest:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                self._rest = data[self._write_once(data) :]
            except OSError:
                if done == 0:
                    raise
                return done
        return len(lines)

    def _write_once(self, data: bytes) -> int:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        with suppress(BlockingIOError):
            return os.write(self._fd, data)
        return 0
