"""Removed services, from the reload that removes them until nothing of them is left.

Theory. Acceptors of the generations that knew a removed service may start one more server until they have heard of
their retirement, and later yet where a client waits for the doorman's word; and a service may have been removed only by
name, its port now another's: so its clients are not turned away meanwhile. Once those acceptors are gone, the row is
disabled and the running servers are told to end. The row is freed when its last server has ended, no relay may start
another session, and the journal has been drained of what that server wrote; only then may it be another service's.
Until then the service may come back to it.

A service that the configuration still has, but with an error, listens no more either. Nobody has asked for the end of
its sessions, so its servers are not told: they go on, and count when the error is mended. A wait server is told, for it
has the listening socket.

Rules of this file: it decides when; rows, records and signals are others'.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

from fastinetd.core.board import Board
from fastinetd.plan.model import Mode, Plan
from fastinetd.services.identity import name_of
from fastinetd.services.installed import InstalledService, InstalledServices
from fastinetd.supervisor.generation import Generation
from fastinetd.system.loop import Loop, Timer

DRAINS = 5
"""Drains of the journal (a quarter of its room each) after which nothing older is left in it."""

AGAIN = 0.02
"""Seconds between two such drains when nothing else happens."""


@dataclass
class Removal:
    """A removed service."""

    installed: InstalledService
    known_to: Sequence[Generation]
    spared: bool  # it has an error: its servers are not told
    told: bool = False  # disabled, its servers told to end unless it is spared
    drains: int = 0  # since it was without servers

    @property
    def accepted(self) -> bool:
        """Whether an acceptor may still start a server of it."""
        return any(generation.accepts for generation in self.known_to)

    @property
    def relayed(self) -> bool:
        """Whether a relay may still start a session of it."""
        builtin = self.installed.planned.mode is Mode.BUILTIN
        return builtin and any(generation.relays for generation in self.known_to)

    @property
    def row(self) -> int:
        return self.installed.row

    @property
    def name(self) -> Hashable:
        return name_of(self.installed.planned.service)


class Removals:
    """The removed services of all reloads."""

    def __init__(self, board: Board, rows: InstalledServices, loop: Loop, *, tell: Callable[[int, int], None],
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
        self._leaving: list[Removal] = []
        self._timer: Timer | None = None

    def come_back(self, rows: Collection[int]) -> None:
        """These rows have a service again."""
        self._leaving = [each for each in self._leaving if each.row not in rows]

    def begin(self, removed: Iterable[InstalledService], plan: Plan, known_to: Sequence[Generation]) -> None:
        """The present plan is without these services; the generations before may serve them still."""
        mistaken = {name_of(service) for service in plan.left_out}
        for each in self._leaving:
            if each.spared and each.name not in mistaken:
                each.spared = each.told = False
        for installed in removed:
            spared = installed.planned.mode is not Mode.WAIT and name_of(installed.planned.service) in mistaken
            self._leaving.append(Removal(installed, known_to, spared))
        self.role_ended()

    def role_ended(self) -> None:
        """Tell the servers of services that no acceptor knows any more."""
        if any(each.told for each in self._leaving):
            self._look_again()  # where it was a relay
        now = {each.row: each for each in self._leaving if not each.told and not each.accepted}
        if not now:
            return
        for row, each in now.items():
            self._board.row_enable(row, False)
            self._reopen(row)
            each.told = True
        for slot in self._board.slots_in_use():
            if slot.row in now and not now[slot.row].spared:
                self._tell(slot.pid, signal.SIGTERM)
        self._look_again()

    def drained(self) -> None:
        """The journal has been drained once more: free the rows that may be."""
        for each in [each for each in self._leaving if each.told]:
            busy = self._board.row_live(each.row) or self._board.row_closed(each.row) or each.relayed
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
