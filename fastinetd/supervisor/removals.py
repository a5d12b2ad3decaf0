"""Removed services, from the reload that removes them until nothing of them is left.

Theory. Acceptors of the generations that knew a removed service may start one more server until they have heard of
their retirement, and later yet where a client waits for the doorman; and a service may have been removed only by name,
its port now another's: so its clients are not turned away meanwhile. Once those acceptors are gone, the row is disabled
and the running servers are signalled. The row is freed when its last server has ended, no role may start another
session, and the journal has been read so often that no record of that server can be left in it; only then may the row
be another service's. Until then the service may come back to it.

A service that the configuration still has, but with an error, listens no more either. The end of its sessions was not
asked for, so its servers are not signalled: they go on, and count when the error is mended. A wait server is signalled,
for it has the listening socket.

Rules of this file: it decides when; rows, records and signals are others'. It sets no timer: whoever reads the journal
calls `free_rows` after each read, and reads again while that asks for it (journal_wakeups.py).
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

from fastinetd.core.board import Board
from fastinetd.logs.service_log import ServiceLog
from fastinetd.plan.model import Mode, Plan
from fastinetd.services.children import Children
from fastinetd.services.closed_ports import ClosedPorts
from fastinetd.services.identity import name_of
from fastinetd.services.installed import InstalledService, InstalledServices
from fastinetd.services.journal_reader import JournalReader
from fastinetd.supervisor.generation import Generation

JOURNAL_READS = 5
"""Reads of the journal (a quarter of its room each) after which no older record is left in it."""


@dataclass
class Removal:
    """A removed service."""

    installed: InstalledService
    known_to: Sequence[Generation]
    spared: bool  # it has an error: its servers are not signalled
    disabled: bool = False  # no acceptor serves it any more; its servers are signalled unless it is spared
    reads: int = 0  # of the journal, since it was without servers

    @property
    def may_get_servers(self) -> bool:
        """Whether a server of it may still be started: of whichever mode it is now, it may have been of another."""
        return any(generation.may_start_servers for generation in self.known_to)

    @property
    def may_get_sessions(self) -> bool:
        """Whether a role of its mode may still start a session of it."""
        return any(generation.may_accept(self.installed.planned) for generation in self.known_to)

    @property
    def row(self) -> int:
        """The row of the removed service."""
        return self.installed.row

    @property
    def name(self) -> Hashable:
        """The identity of the removed service, as in services/identity."""
        return name_of(self.installed.planned.service)


class Removals:
    """The removed services of all reloads."""

    def __init__(self, board: Board, services: InstalledServices, children: Children, log: ServiceLog,
                 closed_ports: ClosedPorts, journal_reader: JournalReader) -> None:
        self._board = board
        self._services = services
        self._children = children
        self._log = log
        self._closed_ports = closed_ports
        self._journal_reader = journal_reader
        self._removals: list[Removal] = []

    def take_back(self, rows: Collection[int]) -> None:
        """Forget the removals of `rows`, which have a service again."""
        self._removals = [each for each in self._removals if each.row not in rows]

    def begin(self, removed: Iterable[InstalledService], plan: Plan, known_to: Sequence[Generation]) -> None:
        """The present plan is without these services; the generations before may serve them still."""
        mistaken = {name_of(service) for service in plan.left_out}
        for each in self._removals:
            if each.spared and each.name not in mistaken:
                each.spared = each.disabled = False
        for installed in removed:
            spared = installed.planned.mode is not Mode.WAIT and name_of(installed.planned.service) in mistaken
            self._removals.append(Removal(installed, known_to, spared))
        self.role_ended()

    def role_ended(self) -> None:
        """A role has left: disable the services that no acceptor serves any more, and signal their servers."""
        now = {each.row: each for each in self._removals if not each.disabled and not each.may_get_servers}
        for row, each in now.items():
            self._board.row_enable(row, False)
            self._closed_ports.reopen(row)  # the port may be another service's now
            each.disabled = True
        if now:
            for slot in self._board.slots_in_use():
                if slot.row in now and not now[slot.row].spared:
                    self._children.signal(slot.pid, signal.SIGTERM)
        if any(each.disabled for each in self._removals):
            self._journal_reader.wake()  # rows may be freed: there may be no server, or the role was waited for

    def free_rows(self) -> bool:
        """The journal has been read once more: free the rows that may be freed. Returns whether it must be read again
        soon, for the others."""
        for each in [each for each in self._removals if each.disabled]:
            busy = self._board.row_live(each.row) or self._board.row_closed(each.row) or each.may_get_sessions
            each.reads = 0 if busy else each.reads + 1
            if each.reads > JOURNAL_READS:
                self._removals.remove(each)
                self._log.forget(each.row)
                self._services.free(each.row)
        return any(each.reads for each in self._removals)
