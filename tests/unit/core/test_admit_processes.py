"""Several processes on one Board: no limit is ever exceeded, nothing is left over, and killed ones are counted out."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from fastinetd.core.board import Board
from fastinetd.core.layout import SlotState, Verdict
from support.accounts import Accounts
from support.core import fork, open_row, program, reap

PROCESSES = 4
ROUNDS = 15_000
SOURCES = [bytes([10, 0, 0, n]) for n in range(6)]


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(2, 200, 40)
    yield made
    os.close(made.fd)


class Tokens:
    """As many as a limit allows, in the kernel's hands: who is admitted must find one."""

    def __init__(self, count: int) -> None:
        self._fd = os.eventfd(count, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def take(self) -> None:
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            raise AssertionError("a limit was exceeded") from None

    def give(self) -> None:
        os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        os.close(self._fd)


def hammer(board: Board, section: int, row: int, tokens: dict[object, Tokens], start: int) -> None:
    """Once told to start, admit and drop at random, at most some at a time."""
    os.eventfd_read(start)
    chance = random.Random(section)
    accounts, mine = Accounts(board, section), program(row)
    held: list[tuple[int, bytes]] = []

    def drop() -> None:
        slot, source = held.pop(chance.randrange(len(held)))
        for key in ("all", row, (row, source)):
            tokens[key].give()
        accounts.drop(slot)

    for _ in range(ROUNDS):
        source = chance.choice(SOURCES)
        verdict, slot = accounts.admit(mine, source)
        if verdict == Verdict.ADMIT:
            for key in ("all", row, (row, source)):
                tokens[key].take()
            held.append((slot, source))
        if held and (len(held) > 6 or chance.random() < 0.5):
            drop()
    while held:
        drop()


@pytest.mark.parametrize(
    ("instances", "per_source", "limit"), [(5, 2, 8), (3, 100, 100), (100, 1, 100), (100, 100, 4), (1, 1, 1)]
)
def test_limits_hold(board: Board, instances: int, per_source: int, limit: int) -> None:
    rows = [open_row(board, instances=instances, per_source=per_source) for _ in range(2)]
    board.set_process_limit(limit)
    tokens: dict[object, Tokens] = {"all": Tokens(limit)}
    for row in rows:
        tokens[row] = Tokens(instances)
        tokens.update({(row, source): Tokens(per_source) for source in SOURCES})
    start = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_CLOEXEC)
    try:
        pids = []
        for number in range(PROCESSES):
            section, row = board.section_claim(1), rows[number % 2]
            pids.append(fork(partial(hammer, board, section, row, tokens, start)))
        os.eventfd_write(start, PROCESSES)
        assert [reap(pid) for pid in pids] == [0] * PROCESSES
    finally:
        for each in tokens.values():
            each.close()
        os.close(start)
    assert board.live == 0
    assert [board.row_live(row) for row in rows] == [0, 0]
    assert board.slots_in_use() == []
    accounts = Accounts(board, 0)
    for source in SOURCES:  # no source has kept a count
        verdict, slot = accounts.admit(program(rows[0]), source)
        assert verdict == Verdict.ADMIT
        accounts.drop(slot)


def go_on(board: Board, section: int, row: int, progress: int, stop: int) -> None:
    """Admit and drop until something can be read from `stop`; a byte to `progress` now and then."""
    chance = random.Random(os.getpid())
    accounts, mine = Accounts(board, section), program(row)
    held: list[int] = []
    while True:
        for _ in range(chance.randrange(1, 60)):
            verdict, slot = accounts.admit(mine, chance.choice(SOURCES))
            if verdict == Verdict.ADMIT:
                held.append(slot)
            if len(held) > 8:
                accounts.drop(held.pop(chance.randrange(len(held))))
        os.write(progress, b".")
        try:
            os.eventfd_read(stop)
        except BlockingIOError:
            continue
        for slot in held:
            accounts.drop(slot)
        return


def taken(board: Board, row: int) -> int:
    return sum(slot.row == row and slot.state == SlotState.TAKEN for slot in board.slots_in_use())


def test_killed_processes_leave_nothing_behind(board: Board) -> None:
    """kill -9 wherever it hits; adoption and a new count make the numbers exact while the others go on."""
    rows = [open_row(board, instances=30, per_source=10) for _ in range(2)]
    heir = board.section_claim(os.getpid())
    stop = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    running: dict[int, tuple[int, int]] = {}  # pid -> section, reading end

    def start(number: int) -> None:
        section, row = board.section_claim(0), rows[number % 2]
        reader, writer = os.pipe()
        pid = fork(lambda: go_on(board, section, row, writer, stop))
        os.close(writer)
        board.section_own(section, pid)
        running[pid] = section, reader

    def bury(pid: int) -> None:
        section, reader = running.pop(pid)
        os.close(reader)
        while not board.close_gate({section}):
            pass
        assert board.adopt(section, heir) == []
        board.recount()
        assert board.consistent()
        assert [board.row_live(row) for row in rows] == [taken(board, row) for row in rows]
        board.open_gate()
        board.section_release(section)

    chance = random.Random(1)
    try:
        for number in range(3):
            start(number)
        for number in range(40):
            victim = chance.choice([*running])
            for _ in range(chance.randrange(1, 4)):
                assert os.read(running[victim][1], 1) == b"."
            os.kill(victim, signal.SIGKILL)
            assert reap(victim) == -signal.SIGKILL
            bury(victim)
            start(number)
        os.eventfd_write(stop, len(running))
        for pid in [*running]:
            while os.read(running[pid][1], 4096):
                pass
            assert reap(pid) == 0
            os.close(running.pop(pid)[1])
    finally:
        for pid, (_, reader) in running.items():
            os.kill(pid, signal.SIGKILL)
            reap(pid)
            os.close(reader)
        os.close(stop)
    assert board.slots_in_use() == []
    assert (board.live, [board.row_live(row) for row in rows]) == (0, [0, 0])


def test_nobody_enters_a_closed_gate(board: Board) -> None:
    row = open_row(board)
    section = board.section_claim(1)
    reader, writer = os.pipe()
    assert board.close_gate(set())

    def admit() -> None:
        os.write(writer, b"1")
        assert Accounts(board, section).admit(program(row), SOURCES[0])[0] == Verdict.ADMIT
        os.write(writer, b"2")

    pid = fork(admit)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"1"
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        assert board.live == 0
        os.set_blocking(reader, True)
        board.open_gate()
        assert os.read(reader, 1) == b"2"
    finally:
        assert reap(pid) == 0
        os.close(reader)
    assert board.live == 1


def test_the_gate_waits_for_those_inside_but_not_for_the_dead(board: Board) -> None:
    """A process stopped between enter and leave keeps the gate from closing, unless it is said to be dead."""
    row = open_row(board)
    section = board.section_claim(0)
    stop = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    for _ in range(300):  # until the stop hits it inside; most do not
        reader, writer = os.pipe()
        pid = fork(partial(go_on, board, section, row, writer, stop))
        os.close(writer)
        board.section_own(section, pid)
        assert os.read(reader, 1)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        closed = board.close_gate(set())
        assert closed or board.close_gate({section})
        board.open_gate()
        os.kill(pid, signal.SIGKILL)
        assert reap(pid) == -signal.SIGKILL
        os.close(reader)
        board.adopt(section, 0)
        board.recount()
        if not closed:
            break
    os.close(stop)
    assert board.live == 0
