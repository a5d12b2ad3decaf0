"""The supervisor's children: servers of its own, servers adopted, orphans, and whom it leaves alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Field, RecordKind, Status
from fastinetd.services.children import HEIR, Children
from support.accounts import Accounts
from support.core import await_end, fork, has_children, open_row, program, reap

SHOW = sum(Field)


class Kit:
    def __init__(self) -> None:
        self.board = Board.create(2, 4000, 3)
        self.row = open_row(self.board)
        self.program = program(self.row, "/bin/true", log_success=SHOW)
        self.sleeper = program(self.row, "/bin/sleep", "1000", log_success=SHOW)
        self.keeper = Keeper(self.board, self.board.section_claim(os.getpid()))
        self.drained = 0
        self.later: list[Callable[[], None]] = []
        loop: Any = SimpleNamespace(later=lambda seconds, callback: self.later.append(callback))
        services: Any = SimpleNamespace(program_of=lambda row: self.sleeper if row == self.row else None)
        journal: Any = SimpleNamespace(read=self.drain)
        self.children = Children(self.board, loop, self.keeper, services, journal)
        self.null = os.open(os.devnull, os.O_RDWR)

    def drain(self) -> None:
        self.drained += len(self.board.take_records())

    def start(self, what: object = None) -> tuple[int, int]:
        """Slot and pid of a new server of the supervisor's."""
        _, slot, pid = self.keeper.start(what or self.program, self.null)  # type: ignore[arg-type]
        assert slot >= 0
        return slot, pid


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    for slot in made.board.slots_in_use():
        os.kill(slot.pid, signal.SIGKILL)
        await_end(slot.pid)
    made.children.reap()
    assert made.board.live == 0
    assert not has_children()
    os.close(made.null)
    os.close(made.board.fd)


def test_who_waits_for_a_server_is_told(kit: Kit) -> None:
    told: list[int] = []
    pids = []
    for number in range(3):
        slot, pid = kit.start()
        kit.children.started(pid, slot, partial(told.append, number))
        pids.append(pid)
    assert len(kit.children) == 3
    for pid in pids:
        await_end(pid)
    kit.children.reap()
    assert sorted(told) == [0, 1, 2]
    assert len(kit.children) == 0
    assert kit.board.slots_in_use() == []
    assert kit.board.counters(kit.row).exits[Status.SUCCESS] == 3


def test_a_fault_of_one_holds_up_no_other(kit: Kit) -> None:
    """Who waits for a server goes wrong when it ends: the next child is accounted for nevertheless, and it is told."""
    heard: list[str] = []

    def wrong() -> None:
        heard.append("wrong")
        raise OSError("cannot listen")

    pids = []
    for ended in (wrong, partial(heard.append, "right")):
        slot, pid = kit.start()
        kit.children.started(pid, slot, ended)
        pids.append(pid)
    for pid in pids:
        await_end(pid)
    faults = 0
    for reap_them in (kit.children.reap, lambda: [again() for again in kit.later]):
        try:
            reap_them()
        except OSError:
            faults += 1
    assert (faults, sorted(heard)) == (1, ["right", "wrong"])
    assert kit.board.live == len(kit.children) == 0


def test_nothing_to_reap(kit: Kit) -> None:
    kit.children.reap()
    slot, pid = kit.start(kit.sleeper)
    kit.children.started(pid, slot, lambda: None)
    kit.children.reap()
    assert len(kit.children) == 1


def test_orphans_are_reaped(kit: Kit) -> None:
    """What a server left behind is the subreaper's; nobody knows it."""
    pid = fork(lambda: None)
    await_end(pid)
    kit.children.reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_roles_are_left_alone(kit: Kit) -> None:
    pid = fork(lambda: None)
    kit.children.role_forked(pid)
    await_end(pid)
    kit.children.reap()
    assert reap(pid) == 0


def test_a_child_with_the_pid_of_a_role_of_before_is_no_role(kit: Kit) -> None:
    pid = fork(lambda: None)
    kit.children.role_forked(pid)
    kit.children.role_reaped(pid)
    await_end(pid)
    kit.children.reap()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_a_server_whose_acceptor_has_just_died_waits_for_its_adoption(kit: Kit) -> None:
    section = kit.board.section_claim(1)
    _, slot, pid = Keeper(kit.board, section).start(kit.program, kit.null)
    await_end(pid)
    kit.children.reap()
    assert [each.pid for each in kit.board.slots_in_use()] == [pid]
    assert kit.children.adopt(section, crashed=True) == []
    assert kit.board.slots_in_use() == []
    assert kit.board.counters(kit.row).exits[Status.SUCCESS] == 1
    assert slot >= 0


@pytest.mark.parametrize("crashed", [False, True])
def test_adopted_servers_go_on(kit: Kit, crashed: bool) -> None:
    section = kit.board.section_claim(1)
    _, slot, pid = Keeper(kit.board, section).start(kit.sleeper, kit.null)
    kit.children.adopt(section, crashed=crashed)
    assert len(kit.children) == 1
    (used,) = kit.board.slots_in_use()
    assert (used.slot, used.section, used.pid) == (slot, HEIR, pid)
    assert kit.board.row_live(kit.row) == 1
    os.kill(pid, signal.SIGTERM)
    await_end(pid)
    kit.children.reap()
    assert [record.kind for record in kit.board.take_records()] == [RecordKind.START, RecordKind.EXIT]
    assert kit.board.counters(kit.row).exits[Status.SIGNAL] == 1


def test_after_a_crash_the_counts_are_made_anew(kit: Kit) -> None:
    """A slot that was taken and got no server."""
    section = kit.board.section_claim(1)
    Accounts(kit.board, section).admit(kit.program, bytes([10, 0, 0, 1]))
    assert kit.board.row_live(kit.row) == 1
    kit.children.adopt(section, crashed=True)
    assert len(kit.children) == 0
    assert kit.board.row_live(kit.row) == kit.board.live == 0
    assert kit.board.consistent()


def test_many_that_end_at_once_leave_room_in_the_journal(kit: Kit) -> None:
    """More records than the ring holds: it is drained meanwhile."""
    section = kit.board.section_claim(1)
    acceptor = Keeper(kit.board, section)
    pids = []
    for _ in range(600):
        _, slot, pid = acceptor.start(kit.program, kit.null)
        assert slot >= 0
        pids.append(pid)
    kit.drain()
    for pid in pids:
        await_end(pid)
    kit.children.adopt(section, crashed=True)
    kit.drain()
    assert kit.drained == 1200
    assert kit.board.live == 0
