"""Removed services, from the reload that removes them until nothing of them is left.

Theory. Acceptors of the generation that knew a removed service may start one more server until they have heard of their
retirement, and a service may have been removed only by name, its port now another's: so its clients are not turned
away meanwhile. Once those acceptors are gone, the row is disabled and the running servers are told to end. The row is
freed when its last server has ended and the journal has been drained of what that server wrote; only then may it be
another service's.

Rules of this file: it decides when; rows, records and signals are others'.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastinetd._board import Board
from fastinetd.generation import Generation
from fastinetd.loop import Loop, Timer
from fastinetd.rows import Installed, Rows

DRAINS = 5
"""Drains of the journal (a quarter of its room each) after which nothing older is left in it."""

AGAIN = 0.02
"""Seconds between two such drains when nothing else happens."""


@dataclass
class Leaving:
    """A removed service."""

    row: int
    known_to: Generation
    told: bool = False  # disabled, its servers told to end
    drains: int = 0  # since it was without servers


class Parting:
    """The removed services of all reloads."""

    def __init__(self, board: Board, rows: Rows, loop: Loop, *, tell: Callable[[int, int], None],
                 forget: Callable[[int], None], drain: Callable[[], object], reopen: Callable[[int], None]) -> None:
        """`tell(pid, signal)`; `forget(row)` before a row is freed; `drain()` drains the journal, calls `drained`;
        `reopen(row)` listens again on a port that the service has closed for a while: it may be another's now."""
        self._board = board
        self._rows = rows
        self._loop = loop
        self._tell = tell
        self._forget = forget
        self._drain = drain
        self._reopen = reopen
        self._leaving: list[Leaving] = []
        self._timer: Timer | None = None

    def begin(self, removed: Iterable[Installed], known_to: Generation) -> None:
        """These services are removed; the generation before the present one was the last to serve them."""
        self._leaving += [Leaving(installed.row, known_to) for installed in removed]
        self.role_ended()

    def role_ended(self) -> None:
        """Tell the servers of services that no acceptor knows any more."""
        now = {each.row: each for each in self._leaving if not each.told and not each.known_to.accepts}
        if not now:
            return
        for row, each in now.items():
            self._board.row_enable(row, False)
            self._reopen(row)
            each.told = True
        for slot in self._board.slots_in_use():
            if slot.row in now:
                self._tell(slot.pid, signal.SIGTERM)
        self._look_again()

    def drained(self) -> None:
        """The journal has been drained once more: free the rows that may be."""
        for each in [each for each in self._leaving if each.told]:
            busy = self._board.row_live(each.row) or self._board.row_closed(each.row)
            each.drains = 0 if busy else each.drains + 1
            if each.drains > DRAINS:
                self._leaving.remove(each)
                self._forget(each.row)
                self._rows.free(each.row)
        if any(each.drains for each in self._leaving):
            self._look_again()

    def _look_again(self) -> None:
        if self._timer is None:
            self._timer = self._loop.later(AGAIN, self._due)

    def _due(self) -> None:
        self._timer = None
        self._drain()
