"""The supervisor's side of the journal: when it is drained, and what else follows from what happened.

Theory. Records arrive on the Board at any rate. With nothing to do the supervisor asks for a wake-up (`Board.sleep`);
woken, it drains for as long as records keep coming, a few dozen times a second, and asks again. So no record waits
long, a storm of them costs few wake-ups, and idleness costs none.

Rules of this file: it owns the eventfd that wakes it. Sinks never stop it: what they could not take is asked about
again when they say.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from fastinetd.core.board import Board
from fastinetd.core.layout import RecordKind
from fastinetd.logs.service_log import ServiceLog
from fastinetd.system.descriptors import lift
from fastinetd.system.loop import Loop, Timer

BATCHING = 0.02
"""Seconds between two drains while records keep coming."""

GLANCING = 0.2
"""Seconds until the next wake-up when this one brought no record: only the number of servers has changed."""


class JournalReader:
    """Drains the Board's journal into the log."""

    def __init__(self, board: Board, loop: Loop, journal: ServiceLog, closed: Callable[[int, int], None],
                 held: Callable[[int], None], drained: Callable[[], None]) -> None:
        """`closed(row, seconds)`: a service's port was closed for so long; `held(row)`: clients begin to wait for the
        service's rate; `drained()`: something may have changed."""
        self._board = board
        self._loop = loop
        self._journal = journal
        self._closed = closed
        self._held = held
        self._drained = drained
        self._flush: Timer | None = None
        board.wake = lift(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        loop.watch(board.wake, self._woken)

    def start(self) -> None:
        """Ask for the first wake-up."""
        self._settle()

    def _woken(self, _: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._board.wake)
        self._loop.later(BATCHING if self.drain() else GLANCING, self._settle)

    def _settle(self) -> None:
        """Drain again while records come; once there are none, ask for a wake-up."""
        if self.drain() or not self._board.sleep():
            self._loop.later(BATCHING, self._settle)

    def drain(self) -> bool:
        """Write what has happened so far; False when there was nothing."""
        records = self._board.drain()
        if records:
            self._journal.write(records)
            for record in records:
                if record.kind == RecordKind.DEACTIVATED:
                    self._closed(record.row, record.value)
                elif record.kind == RecordKind.HELD_BACK:
                    self._held(record.row)
        wait = self._journal.flush()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if wait is not None:
            self._flush = self._loop.later(max(wait, BATCHING), self._flush_again)
        self._drained()
        return bool(records)

    def _flush_again(self) -> None:
        self._flush = None
        self.drain()
