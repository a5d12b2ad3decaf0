"""A process may die after any instruction: whoever adopts its slots brings counts and records in order.

A process that starts and ends a server, or sees it end before it has its connection, runs step by step. Whenever it has
changed the Board, a copy of the Board is adopted as if it had died just then.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Field, RecordKind, SlotState
from fastinetd.core.program import Program
from fastinetd.services.children import HEIR, Children
from support.accounts import Accounts
from support.core import await_end, fork, open_row, program

TRACE_ME, STEP = 0, 9
MAIN, DEAD = 0, 1
"""Sections of the heir and of the process that dies."""

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def life(board: Board, served: Program) -> None:
    """Start a server, see it end, account for it; traced from here on."""
    keeper = Keeper(board, DEAD)
    null = os.open(os.devnull, os.O_RDWR)
    assert libc.ptrace(TRACE_ME, 0, None, None) == 0, os.strerror(ctypes.get_errno())
    os.kill(os.getpid(), signal.SIGSTOP)
    _, slot, pid = keeper.start(served, null)
    if slot >= 0:
        await_end(pid)
        assert keeper.end(slot)


def life_with_a_loss(board: Board, served: Program) -> None:
    """Start a server, and account for its end as of one that had no connection yet, which is given up; traced from the
    end on."""
    keeper, accounts = Keeper(board, DEAD), Accounts(board, DEAD)
    null = os.open(os.devnull, os.O_RDWR)
    _, slot, pid = keeper.start(served, null)
    os.waitpid(pid, 0)
    assert libc.ptrace(TRACE_ME, 0, None, None) == 0, os.strerror(ctypes.get_errno())
    os.kill(os.getpid(), signal.SIGSTOP)
    accounts.lose_server(slot, signal.SIGKILL)
    keeper.drop(slot)


def steps(pid: int) -> Iterator[None]:
    """Run a process that asked to be traced, an instruction at a time."""
    while True:
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return
        yield
        number = os.WSTOPSIG(status)
        passed_on = 0 if number in (signal.SIGTRAP, signal.SIGSTOP) else number
        assert libc.ptrace(STEP, pid, None, passed_on) == 0, os.strerror(ctypes.get_errno())


def copied(seen: bytes) -> Board:
    """Another Board with the same contents."""
    fd = os.memfd_create("copy")
    os.write(fd, seen)
    return Board.open(fd, writable=True)


def adopted(board: Board, served: Program) -> Counter[RecordKind]:
    """What the journals tell once the dead process's slots are adopted."""
    told: Counter[RecordKind] = Counter()

    def drain() -> None:
        told.update(RecordKind(record.kind) for record in board.take_records())

    loop: Any = SimpleNamespace(later=lambda seconds, callback: None)
    services: Any = SimpleNamespace(program_of=lambda row: served)
    journal: Any = SimpleNamespace(read=drain)
    children = Children(board, loop, Keeper(board, HEIR), services, journal)
    drain()
    children.adopt(DEAD, crashed=True)
    drain()
    return told


def states(board: Board) -> list[int]:
    return [slot.state for slot in board.slots_in_use()]


def deaths_of(board: Board, begin: Callable[[], None]) -> Iterator[bytes]:
    """The Board after each instruction that has changed it."""
    size = os.fstat(board.fd).st_size
    before = os.pread(board.fd, size, 0)
    for _ in steps(fork(begin)):
        now = os.pread(board.fd, size, 0)
        if now != before:
            yield now
            before = now


def a_board() -> Board:
    board = Board.create(1, 4, 2)
    for _ in range(2):
        board.section_claim(os.getpid())
    return board


def told_after(death: bytes, served: Program, at: tuple[int, int]) -> Counter[RecordKind]:
    """What is told in all when the dead process is adopted; nothing of it is left."""
    board = copied(death)
    where = (*at, states(board))
    told = adopted(board, served)
    assert board.slots_in_use() == [], where
    assert (board.live, board.row_live(0)) == (0, 0), where
    os.close(board.fd)
    return told


@pytest.mark.parametrize("path", ["/bin/true", "/nonexistent"])
@pytest.mark.parametrize("fields", [sum(Field), 0])
def test_nothing_is_lost_and_nothing_told_twice(path: str, fields: int) -> None:
    board = a_board()
    served = program(open_row(board), path, log_success=fields)
    deaths: list[bytes] = []
    seen: set[int] = set()
    for death in deaths_of(board, lambda: life(board, served)):
        deaths.append(death)
        seen.update(states(board))
    assert seen >= ({SlotState.TAKEN, SlotState.RUNNING, SlotState.ENDED} if path == "/bin/true" else {SlotState.TAKEN})
    assert len(deaths) > 10
    for number, death in enumerate(deaths):
        told = told_after(death, served, (number, len(deaths)))
        assert told[RecordKind.START] == told[RecordKind.EXIT] <= 1, (number, len(deaths), told)
    os.close(board.fd)


@pytest.mark.parametrize("fields", [sum(Field), Field.SHOW_PID, 0])
def test_a_server_that_ends_before_it_has_its_connection(fields: int) -> None:
    """It is told of once, though its slot goes on without it. SHOW_PID alone records no end to go by."""
    board = a_board()
    served = program(open_row(board), "/bin/true", log_success=fields)
    deaths = list(deaths_of(board, lambda: life_with_a_loss(board, served)))
    assert len(deaths) > 5
    for number, death in enumerate(deaths):
        told = told_after(death, served, (number, len(deaths)))
        assert told[RecordKind.START] == bool(fields), (number, len(deaths), told)
        assert told[RecordKind.EXIT] == (fields == sum(Field)), (number, len(deaths), told)
    os.close(board.fd)
