"""Where entries of the log go, and what happens to them while they cannot go there.

Theory. A sink is one destination: a file, syslog, or standard error. Entries (lines, datagrams; a Format makes them)
are put into its spool and written from there, in order, at once if possible. When the destination fails (a full disk,
a vanished folder, no syslog daemon, a reader that has stopped reading) the sink pauses, for 50 ms at first and twice
as long each time up to 5 seconds; the spool keeps the newest 10,000 entries, older ones are lost and counted. The
first thing written afterwards is how many were lost. Trouble is reported once, when it begins, and so is its end.

Rules of this file
 - No method raises for what a destination does, and none waits for it.
 - A call writes at most ENTRIES_PER_WRITE entries, so that catching up never stops the loop that calls it.
 - A report may come back as an entry for the same sink: `_keep_report` keeps it, `_send_reports` sends it, last of all.
 - Descriptors are close-on-exec and belong to their sink.
"""

from __future__ import annotations

import errno
import os
import select
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from fastinetd.logs.lines import Level, error_text

ENTRIES_KEPT = 10_000
"""Entries a sink keeps while they cannot be written."""

ENTRIES_PER_WRITE = 5_000
"""Entries written in one call."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds between two attempts on a destination in trouble."""

FIRST_BUSY_PAUSE, LONGEST_BUSY_PAUSE = 0.001, 0.1
"""Seconds between two attempts on a destination that is only slow: a syslog socket may queue no more than ten."""

REPORTS_APART = 60.0
"""Seconds between two reports of trouble from one sink, so that a destination that comes and goes is no flood."""

ATOMIC_BYTES = 4096
"""PIPE_BUF of Linux: a pipe that poll(2) calls writable takes this much without blocking."""

_BUSY = (errno.EAGAIN, errno.ENOBUFS)  # flow control rather than trouble

Report = Callable[[Level, str], None]


def utf8_of(text: str) -> bytes:
    """UTF-8 that never fails: what cannot be encoded becomes an escape."""
    return text.encode("utf-8", "backslashreplace")


def write_without_waiting(fd: int, data: bytes) -> int:
    """Write at most ATOMIC_BYTES; return how many. Raises BlockingIOError where write(2) would wait, as poll(2) says:
    `fd` may be blocking."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.write(fd, data[:ATOMIC_BYTES])


def write_each(entries: Sequence[str], write: Callable[[str], None]) -> int:
    """Write entries one by one; return how many are done with, which are those before the first that fails. Raises
    OSError if that is the first of all."""
    for done, entry in enumerate(entries):
        try:
            write(entry)
        except OSError:
            if done == 0:
                raise
            return done
    return len(entries)


class Sink(ABC):
    """A destination of entries. `lost` counts those that never got there."""

    def __init__(self, name: str, clock: Callable[[], float], report: Report, note: Callable[[int], str]) -> None:
        """`clock` is monotonic, in seconds; `report` gets trouble; `note` makes the entry that says how many were lost.
        """
        self.name = name
        self.lost = 0
        self._clock = clock
        self._report = report
        self._note = note
        self._spool: deque[str] = deque()
        self._loss_to_note = 0  # entries lost of which the destination has no note yet
        self._pause = 0.0  # seconds; 0: no trouble
        self._due = 0.0  # when the next attempt may be made
        self._reported = False  # this trouble was
        self._reported_at = float("-inf")
        self._loss_reported = False
        self._reports: list[tuple[Level, str]] = []

    @abstractmethod
    def _write(self, entries: Sequence[str]) -> int:
        """Write entries, after what an earlier call left unfinished; return how many are done with. OSError: none.
        """

    def _unfinished(self) -> bool:
        """Whether part of an entry that counts as done is still to be written."""
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

    def put(self, entries: Iterable[str]) -> None:
        """Take entries (of the destination's Format) and write them if that is possible now."""
        self._spool.extend(entries)
        if self._pause and self._clock() < self._due:
            self._drop_oldest()
            self._send_reports()
        else:
            self.flush()

    def flush(self) -> float | None:
        """Write what is kept if it is time to; return the seconds until the next call, None if nothing is kept."""
        if not (self._spool or self._unfinished()):
            return None
        now = self._clock()
        if now < self._due:
            return self._due - now
        try:
            self._write_spool()
        except OSError as error:
            self._begin_pause(error)
        else:
            self._end_pause()
        self._send_reports()
        if not (self._spool or self._unfinished()):
            return None
        return max(0.0, self._due - self._clock())

    def _write_spool(self) -> None:
        budget = ENTRIES_PER_WRITE
        while budget > 0 and (self._spool or self._unfinished()):
            batch = list(islice(self._spool, budget))
            if self._loss_to_note:
                batch.insert(0, self._note(self._loss_to_note))
            done = self._write(batch)
            if self._loss_to_note and done:
                self._loss_to_note = 0
                done -= 1
            if done:
                self._pause = 0.0
            budget -= max(1, done)
            if done == len(self._spool):
                self._spool.clear()
            else:
                for _ in range(done):
                    self._spool.popleft()

    def _keep_report(self, level: Level, text: str) -> None:
        self._reports.append((level, text))

    def _send_reports(self) -> None:
        if self._reports:
            reports, self._reports = self._reports, []
            for level, text in reports:
                self._report(level, text)

    def _drop_oldest(self) -> None:
        """Drop, and count, the oldest entries beyond ENTRIES_KEPT."""
        excess = len(self._spool) - ENTRIES_KEPT
        if excess <= 0:
            return
        for _ in range(excess):
            self._spool.popleft()
        self.lost += excess
        self._loss_to_note += excess
        if self._reported and not self._loss_reported:
            self._loss_reported = True
            lost = f"only the newest {ENTRIES_KEPT} records are kept, older ones are lost"
            self._keep_report(Level.ERROR, f"{self.name}: {lost}")

    def _begin_pause(self, error: OSError) -> None:
        """The destination has failed: pause, and report that once."""
        busy = error.errno in _BUSY
        first, longest = (FIRST_BUSY_PAUSE, LONGEST_BUSY_PAUSE) if busy else (FIRST_PAUSE, LONGEST_PAUSE)
        self._pause = min(longest, max(first, self._pause * 2))
        now = self._clock()
        self._due = now + self._pause
        new = not busy and not self._reported and now - self._reported_at >= REPORTS_APART
        if new:
            self._reported, self._reported_at = True, now
        self._drop_oldest()
        if new:
            why = f"{self._reason(error)}; {self._remedy(error)}"
            kept = f"up to {ENTRIES_KEPT} records are kept meanwhile"
            self._keep_report(Level.ERROR, f"cannot write {self.name}: {why}{kept}")

    def _reason(self, error: OSError) -> str:
        """What failed, for a report."""
        return error_text(error.errno)

    def _remedy(self, error: OSError) -> str:
        """What to do about it, for a report, with "; " at its end; "" where the reason says as much."""
        return ""

    def _end_pause(self) -> None:
        """The destination has taken entries."""
        self._pause = self._due = 0.0
        was_reported, self._reported, self._loss_reported = self._reported, False, False
        self._drop_oldest()
        if was_reported:
            self._keep_report(Level.NOTICE, f"{self.name} can be written again")
