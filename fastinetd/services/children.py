"""The supervisor's children: servers of wait services, servers adopted from dead acceptors, and orphans.

Theory. The supervisor is a subreaper: when an acceptor dies its servers become the supervisor's children, and so does
whatever a server left behind. The slots on the Board say which of them are servers; `adopt` takes those of a dead
process over. Connections that it had given to its pools and heard no more of keep their slots until it is sure who has
them (holders.py), or that nobody can have them any more. SIGCHLD may announce an adopted child before the death of its
acceptor has been seen; such a child is left unreaped until its slot has been adopted, so that its end is accounted for.

Rules of this file: a zombie is looked at (WNOWAIT) before it is reaped. Role processes are never reaped here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from fastinetd._accept import Keeper
from fastinetd.core.board import Board
from fastinetd.core.layout import SlotState
from fastinetd.core.program import Program
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.services.holders import holders_of
from fastinetd.system.processes import parent_of

HEIR = 0
"""The supervisor's own section of the Board."""

MANY = 500
"""Servers looked at between two drains: they write at most two records each, and a drain takes 1,024."""

COUNT_AGAIN = 0.2
"""Seconds until the next attempt to count when a process was stopped while it counted."""

LOOK_AGAIN = 0.2
"""Seconds until the next attempt to see who has what when there was no descriptor for it."""

Ended = Callable[[], None]

WhenClosed = Callable[[Callable[[], None]], object]


def call_now(then: Callable[[], None]) -> None:
    """There is nothing to wait for."""
    then()


def check_counts(board: Board, messages: DaemonLog) -> None:
    """Compare the counts with the slots while nobody changes them; after a difference count again."""
    quiet = board.close_gate(set())
    right = board.consistent()
    if quiet and not right:
        board.recount()
    board.open_gate()
    if right:
        messages.info("Consistency check passed")
    elif quiet:
        messages.error("Consistency check: the counts differ from the running servers and are made anew")
    else:
        messages.warning("Consistency check: not possible, a process is stopped while it counts")


class Children:
    """Which child is in which slot, and who wants to know of its end."""

    def __init__(self, board: Board, keeper: Keeper, program_of: Callable[[int], Program | None],
                 is_role: Callable[[int], bool], drain: Callable[[], object],
                 later: Callable[[float, Callable[[], None]], object]) -> None:
        """`program_of` gives a row's Program; `is_role` tells role processes, which are not touched here; `drain`
        makes room in the journal; `later` is the loop's."""
        self._board = board
        self._keeper = keeper
        self._program_of = program_of
        self._is_role = is_role
        self._drain = drain
        self._later = later
        self._since_drain = 0
        self._slots: dict[int, tuple[int, Ended | None]] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def started(self, pid: int, slot: int, ended: Ended) -> None:
        """A wait service's server runs; `ended` is called once it has ended and is accounted for."""
        self._slots[pid] = (slot, ended)

    def adopt(self, section: int, *, crashed: bool, when_closed: WhenClosed = call_now) -> int:
        """Take over the servers of a process that is gone; returns how many it knew of. `when_closed` calls once
        nobody has any more what that process had open.

        After a crash the counts are made anew from the slots, because the process may have died between the two; and
        so they are where it left slots of clients whom nobody had taken.
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
            self._later(COUNT_AGAIN, self._recount)
        for slot, pid, state in adopted:
            self._take_over(slot, pid, state)
        if handed:
            when_closed(lambda: self._find_holders(handed))
        self.reap()
        return len(adopted)

    def _find_holders(self, handed: list[tuple[int, int]]) -> None:
        """Nobody can take any more what a dead process had given to its pools: see who has, and give back the rest."""
        known = [slot.pid for slot in self._board.slots_in_use() if slot.pid]
        try:
            found = holders_of(handed, known)
        except OSError:  # no descriptors or memory just now
            self._later(LOOK_AGAIN, lambda: self._find_holders(handed))
            return
        for slot, _ in handed:
            if slot in found:
                self._board.set_pid(slot, found[slot])
                self._take_over(slot, found[slot], SlotState.TAKEN)
            else:
                self._keeper.drop(slot)
        self._drain()  # it tells of changes: a slot that was given back has no record of its own
        self.reap()

    def _take_over(self, slot: int, pid: int, state: SlotState) -> None:
        """The slot's server is this process's child now."""
        program = self._program_of(self._board.slot_row(slot))
        if state == SlotState.TAKEN and program is not None:
            self._keeper.recognise(program, slot)
        if not self._end(slot):
            self._slots[pid] = (slot, None)

    def _recount(self) -> None:
        """Count again what could not be counted because another process was stopped in the midst of counting."""
        if self._board.close_gate(set()):
            self._board.recount()
        else:
            self._later(COUNT_AGAIN, self._recount)
        self._board.open_gate()

    def _end(self, slot: int) -> bool:
        """Account for a slot's server if it has ended. Thousands may end at once: the journal is drained meanwhile."""
        self._since_drain += 1
        if self._since_drain >= MANY:
            self._since_drain = 0
            self._drain()
        return self._keeper.end(slot)

    def reap(self) -> None:
        """Account for every child that has ended (on SIGCHLD)."""
        while True:
            try:
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if seen is None or self._is_role(seen.si_pid):
                return
            known = self._slots.pop(seen.si_pid, None)
            if known is not None:
                slot, ended = known
                self._end(slot)
                if ended is not None:
                    self._tell(ended)
            elif self._board.slot_of_pid(seen.si_pid) >= 0:
                return  # its acceptor has died just now; `adopt` comes back here
            else:
                os.waitpid(seen.si_pid, os.WNOHANG)

    def signal(self, pid: int, number: int) -> None:
        """Signal a server or role, and nobody else: processes without privileges write the Board too."""
        if pid > 1 and (parent := parent_of(pid)) is not None and (parent == os.getpid() or self._is_role(parent)):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _tell(self, ended: Ended) -> None:
        """Who waits for a server hears of its end; if that goes wrong the other children are seen to all the same."""
        try:
            ended()
        except Exception:
            self._later(0.0, self.reap)
            raise  # the loop says so
