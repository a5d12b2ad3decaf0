"""The reader of the Board's journals: it writes the records to the log, and starts what else follows from them.

Theory. Acceptors, the relay and the supervisor itself write records; each has a journal on the Board with room for a
bounded number of them, and waits when it is full. The supervisor alone reads. A read takes all records there are, in
the order in which they were written.

Rules of this file: it owns the eventfd by which other processes, and the supervisor's own parts, wake the supervisor.
When it is read is another's to decide (supervisor/journal_wakeups.py). Sinks never stop it: what they could not take is
offered to them again at the time that they name.
"""

from __future__ import annotations

import os
from contextlib import suppress

from fastinetd.core.board import Board
from fastinetd.core.layout import RecordKind
from fastinetd.logs.service_log import ServiceLog
from fastinetd.services.closed_ports import ClosedPorts
from fastinetd.services.rate_episodes import Episodes
from fastinetd.system.descriptors import lift_descriptor
from fastinetd.system.loop import Loop, Timer

FLUSH_PAUSE = 0.02
"""Seconds until sinks are offered again what they could not take, at least."""


class JournalReader:
    """Reads the Board's journals into the log."""

    def __init__(self, board: Board, loop: Loop, log: ServiceLog, closed_ports: ClosedPorts,
                 episodes: Episodes) -> None:
        self._board = board
        self._loop = loop
        self._log = log
        self._closed_ports = closed_ports
        self._episodes = episodes
        self._flush: Timer | None = None
        board.wake = lift_descriptor(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def read(self) -> bool:
        """Write the records there are; False when there were none."""
        records = self._board.take_records()
        if records:
            self._log.write(records)
            for record in records:
                if record.kind == RecordKind.DEACTIVATED:
                    self._closed_ports.reopen_later(record.row, record.value)
                elif record.kind == RecordKind.RATE_WAIT:
                    self._episodes.client_waits(record.row)
        self._flush_log()
        return bool(records)

    def wake(self) -> None:
        """Have the supervisor read soon, and see to what follows from a change that has no record of its own."""
        with suppress(BlockingIOError):  # it has been woken often enough
            os.eventfd_write(self._board.wake, 1)

    def _flush_log(self) -> None:
        wait = self._log.flush()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if wait is not None:
            self._flush = self._loop.later(max(wait, FLUSH_PAUSE), self._flush_again)

    def _flush_again(self) -> None:
        self._flush = None
        self.read()
