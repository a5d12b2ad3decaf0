"""What is counted and recorded of a server's end, and what its client's place is worth afterwards."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Field, RecordKind, Status, Verdict
from support.accounts import Accounts
from support.core import await_end, open_row, program

CLD_EXITED, CLD_KILLED, CLD_DUMPED = 1, 2, 3  # waitid(2)
FOUR, SIX = bytes([192, 0, 2, 7]), bytes.fromhex("20010db8000000000000000000000007")
ALL = sum(Field)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(2, 8, 2)
    made.wake = os.eventfd(0)
    yield made
    os.close(made.wake)
    os.close(made.fd)


@pytest.fixture
def section(board: Board) -> int:
    """A process's section of the Board."""
    return board.section_claim(os.getpid())


@pytest.fixture
def keeper(board: Board, section: int) -> Keeper:
    return Keeper(board, section)


@pytest.fixture
def accounts(board: Board, section: int) -> Accounts:
    return Accounts(board, section)


@pytest.mark.parametrize(("code", "status", "kind", "signalled"), [
    (CLD_EXITED, 0, Status.SUCCESS, False), (CLD_EXITED, 3, Status.FAILURE, False),
    (CLD_KILLED, signal.SIGTERM, Status.SIGNAL, True), (CLD_DUMPED, signal.SIGABRT, Status.SIGNAL, True),
    (0, 0, Status.UNKNOWN, False),
])  # fmt: skip
def test_how_it_ended(
    board: Board, accounts: Accounts, code: int, status: int, kind: Status, signalled: bool
) -> None:
    row = open_row(board)
    _, slot = accounts.admit(program(row, log_success=ALL), FOUR)
    accounts.end_as(slot, code, status, 3_000_000, 7_000_000)
    counters = board.counters(row)
    assert [number for number, count in enumerate(counters.exits) if count] == [kind]
    assert (counters.user_us, counters.system_us) == (3_000_000, 7_000_000)
    (record,) = (record for record in board.take_records() if record.kind == RecordKind.EXIT)
    assert (record.value, record.signalled) == (status, signalled)
    assert record.seconds == 0  # whole seconds, and it has lasted none


def test_processor_time(board: Board, keeper: Keeper) -> None:
    """Of a server that reckons, most is user time."""
    row = open_row(board)
    reckons = program(row, sys.executable, "-c", "for _ in range(6_000_000): pass")
    reader, writer = os.pipe()
    _, slot, pid = keeper.start(reckons, writer)
    await_end(pid)
    assert keeper.end(slot)
    counters = board.counters(row)
    assert counters.user_us > counters.system_us
    assert counters.user_us > 50_000
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("address", [FOUR, SIX], ids=["ipv4", "ipv6"])
class TestPlaceOfASource:
    """Two servers for each client."""

    def test_given_back(self, board: Board, accounts: Accounts, address: bytes) -> None:
        mine = program(open_row(board, per_source=2))
        slots = []
        for _ in range(2):
            verdict, slot = accounts.admit(mine, address)
            assert verdict == Verdict.ADMIT
            slots.append(slot)
        other = address[:-1] + b"\x08"
        for give_back in (accounts.drop, lambda slot: accounts.end_as(slot, CLD_EXITED, 0, 0, 0)) * 2:
            assert accounts.admit(mine, address)[0] == Verdict.PER_SOURCE
            verdict, once = accounts.admit(mine, other)
            assert verdict == Verdict.ADMIT
            accounts.drop(once)
            give_back(slots.pop(0))
            verdict, slot = accounts.admit(mine, address)
            assert verdict == Verdict.ADMIT
            slots.append(slot)
        for slot in slots:
            accounts.drop(slot)
        assert board.live == 0
        assert board.consistent()

    def test_given_back_after_its_acceptor_has_died(
        self, board: Board, keeper: Keeper, accounts: Accounts, address: bytes
    ) -> None:
        """Whoever adopts the slot counts from it again, and gives back the same place."""
        mine = program(open_row(board, per_source=1), "/bin/cat")
        dead = Keeper(board, board.section_claim(os.getpid()))
        reader, writer = os.pipe()
        verdict, slot, pid = dead.start(mine, reader, address)
        assert verdict == Verdict.ADMIT
        board.close_gate(set())
        assert [each[0] for each in board.adopt(1, 0)] == [slot]
        board.recount()
        board.open_gate()
        assert accounts.admit(mine, address)[0] == Verdict.PER_SOURCE
        os.close(writer)
        await_end(pid)
        assert keeper.end(slot)
        assert accounts.admit(mine, address)[0] == Verdict.ADMIT
        os.close(reader)

