"""When the supervisor reads the journals, and what it looks at after each read.

Theory. Records arrive on the Board at any rate. With nothing to do the supervisor asks for a wake-up (`Board.sleep`);
woken, it reads for as long as records keep coming, a few dozen times a second, and asks again. So no record waits long,
a storm of them costs few wake-ups, and idleness costs none.

Rules of this file: what must be read again for is asked of those who need it (`Removals.free_rows`), after each read.
"""

from __future__ import annotations

import os
from contextlib import suppress

from fastinetd.core.board import Board
from fastinetd.services.journal_reader import JournalReader
from fastinetd.supervisor.removals import Removals
from fastinetd.supervisor.status import Status
from fastinetd.system.loop import Loop, Timer

READ_AGAIN = 0.02
"""Seconds between two reads while records keep coming."""

READ_AFTER_NOTHING = 0.2
"""Seconds until the next read after a wake-up that brought no record: only the number of servers has changed."""


class JournalWakeups:
    """Reads the journals in time."""

    def __init__(self, board: Board, loop: Loop, journal_reader: JournalReader, removals: Removals,
                 status: Status) -> None:
        self._board = board
        self._loop = loop
        self._journal_reader = journal_reader
        self._removals = removals
        self._status = status
        self._timer: Timer | None = None
        loop.watch(board.wake, self._woken)

    def start(self) -> None:
        """Read what there is, and ask for the first wake-up."""
        self._read_until_quiet()

    def _woken(self, _: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._board.wake)
        self._read_in(READ_AGAIN)
        if not self._read():
            self._read_in(READ_AFTER_NOTHING)

    def _read_until_quiet(self) -> None:
        """Read again while records come; once there are none, ask for a wake-up."""
        self._read_in(READ_AGAIN)  # first of all: if anything below goes wrong, this was not the last read
        if not self._read() and self._board.sleep():
            self._cancel()

    def _read(self) -> bool:
        """Read, and look at what may follow; whether another read is needed soon."""
        any_records = self._journal_reader.read()
        self._status.retitle()
        return self._removals.free_rows() or any_records

    def _read_in(self, seconds: float) -> None:
        self._cancel()
        self._timer = self._loop.later(seconds, self._read_until_quiet)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
