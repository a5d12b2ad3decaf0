"""The supervisor's children: servers of wait services, servers adopted from dead acceptors, and orphans.

Theory. The supervisor is a subreaper: when an acceptor dies its servers become the supervisor's children, and so does
whatever a server left behind. The slots on the Board say which of them are servers; `adopt` takes those of a dead
process over. Connections that it had given to its pools, and did not hear of any more, keep their slots until it is
certain which process has them (holders.py), or that no process can have them any more. SIGCHLD may announce an adopted
child before the death of its acceptor has been seen; such a child is left unreaped until its slot has been adopted, so
that its end is accounted for.

Rules of this file: a zombie is looked at (WNOWAIT) before it is reaped. Role processes are never reaped here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import SlotState
from fastinetd.core.records import AdoptedServer, HandedConnection
from fastinetd.services.holders import holders_of
from fastinetd.services.installed import InstalledServices
from fastinetd.services.journal_reader import JournalReader
from fastinetd.system.loop import Loop
from fastinetd.system.processes import parent_of

HEIR = 0
"""The supervisor's own section of the Board."""

ENDS_BETWEEN_READS = 500
"""Servers accounted for between two reads of the journal: they write at most two records each, a read takes 1,024 of a
section, and a section has room for 4,096."""

COUNT_AGAIN = 0.2
"""Seconds until the next attempt to count when a process was stopped while it counted."""

LOOK_AGAIN = 0.2
"""Seconds until the next attempt to see which process has a connection when there was no descriptor to look with."""

Ended = Callable[[], None]


class Children:
    """Which child is in which slot, and what is to be called at its end; and which children are roles."""

    def __init__(self, board: Board, loop: Loop, keeper: Keeper, services: InstalledServices,
                 journal_reader: JournalReader) -> None:
        self._board = board
        self._loop = loop
        self._keeper = keeper
        self._services = services
        self._journal_reader = journal_reader
        self._ends_since_read = 0
        self._slots: dict[int, tuple[int, Ended | None]] = {}
        self._role_pids: set[int] = set()

    def __len__(self) -> int:
        return len(self._slots)

    def started(self, pid: int, slot: int, ended: Ended) -> None:
        """A server runs; `ended` is called, once, when it has ended and is accounted for: a function, as the parts that
        start servers are built on this one."""
        self._slots[pid] = (slot, ended)

    def role_forked(self, pid: int) -> None:
        """A role runs in this child: until `role_reaped` it is for its generation to reap."""
        self._role_pids.add(pid)

    def role_reaped(self, pid: int) -> None:
        """Another child may have the pid of this role now."""
        self._role_pids.discard(pid)

    def adopt(self, section: int, *, crashed: bool) -> Sequence[HandedConnection]:
        """Take over the servers of a process that is gone. Returns the connections that it had given to its pools: with
        these `find_holders` must be called once no process has any more what the one that is gone had open.

        After a crash the counts are made anew from the slots, because the process may have died between the two; and so
        they are where it left slots of clients whom no process had taken.
        """
        anew = crashed or any(slot.state == SlotState.TAKEN for slot in self._board.slots_in_use(section))
        sure = not anew or self._board.close_gate({section})
        handed = self._board.handed(section)
        try:
            adopted = self._board.adopt(section, HEIR)
            if anew and sure:
                self._board.recount()
        finally:
            self._board.open_gate()
        if not sure:
            self._loop.later(COUNT_AGAIN, self._recount)
        for server in adopted:
            self._take_over(server)
        self.reap()
        return handed

    def find_holders(self, handed: Sequence[HandedConnection]) -> None:
        """Find the processes that have a dead acceptor's connections, now that no further one can take them, and give
        back the slots of the connections that none has."""
        in_slots = [slot.pid for slot in self._board.slots_in_use() if slot.pid]
        try:
            holders = holders_of(handed, in_slots)
        except OSError:  # no descriptors or memory just now
            self._loop.later(LOOK_AGAIN, lambda: self.find_holders(handed))
            return
        for slot in (connection.slot for connection in handed):
            if slot in holders:
                self._board.set_pid(slot, holders[slot])
                self._take_over(AdoptedServer(slot, holders[slot], SlotState.TAKEN))
            else:
                self._keeper.drop(slot)
        self._journal_reader.wake()  # a slot that is given back has no record
        self.reap()

    def _take_over(self, server: AdoptedServer) -> None:
        """The server is this process's child now."""
        program = self._services.program_of(self._board.slot_row(server.slot))
        if server.state == SlotState.TAKEN and program is not None:
            self._keeper.record_start(program, server.slot)
        if not self._account_for_end(server.slot):
            self._slots[server.pid] = (server.slot, None)

    def _recount(self) -> None:
        """Count again what could not be counted because another process was stopped in the midst of counting."""
        if self._board.close_gate(set()):
            self._board.recount()
        else:
            self._loop.later(COUNT_AGAIN, self._recount)
        self._board.open_gate()

    def _account_for_end(self, slot: int) -> bool:
        """Account for a slot's server if it has ended. Thousands may end at once: the journal is read meanwhile."""
        self._ends_since_read += 1
        if self._ends_since_read >= ENDS_BETWEEN_READS:
            self._ends_since_read = 0
            self._journal_reader.read()
        return self._keeper.end(slot)

    def reap(self) -> None:
        """Account for every child that has ended (on SIGCHLD)."""
        while True:
            try:
                zombie = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if zombie is None or zombie.si_pid in self._role_pids:
                return
            server = self._slots.pop(zombie.si_pid, None)
            if server is not None:
                slot, ended = server
                self._account_for_end(slot)
                if ended is not None:
                    self._call(ended)
            elif self._board.slot_of_pid(zombie.si_pid) >= 0:
                return  # its acceptor has died just now; `adopt` comes back here
            else:
                os.waitpid(zombie.si_pid, os.WNOHANG)

    def signal(self, pid: int, number: int) -> None:
        """Signal a server or role, and no other process: processes without privileges write the Board too."""
        if pid > 1 and (parent := parent_of(pid)) is not None and (parent == os.getpid() or parent in self._role_pids):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _call(self, ended: Ended) -> None:
        """Call the wait service whose server has ended; an exception there keeps no other child from being reaped."""
        try:
            ended()
        except Exception:
            self._loop.later(0.0, self.reap)
            raise  # the loop logs it
