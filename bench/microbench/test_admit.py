"""The whole verdict: enabled, open, address, rate, limits, source; a slot taken and given back."""

from __future__ import annotations

import socket

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastinetd.core.board import Board
from fastinetd.core.exec_context import ExecContext
from fastinetd.core.layout import Verdict
from fastinetd.core.program import Program, Ranges
from support.accounts import Accounts
from support.core import set_limits

TIMES = 1000  # per measured call, each with the call from Python
HERE = socket.inet_aton("127.0.0.1")


def open_row(board: Board, per_source: int | None = None, instances: int | None = None) -> int:
    """A row that is enabled at all times."""
    row: int = board.row_claim()
    set_limits(board, row, instances=instances, per_source=per_source)
    board.row_times(row, 0, 2**62)
    board.row_enable(row, True)
    return row


@pytest.mark.parametrize("per_source", [None, 10], ids=["unlimited", "per_source"])
def test_1000_admissions(benchmark: BenchmarkFixture, per_source: int | None) -> None:
    board = Board.create(16, 1024, 2)
    accounts = Accounts(board, board.section_claim(1))
    row = open_row(board, per_source=per_source, instances=100 if per_source else None)
    program = Program(row, ExecContext(b"/bin/true", (b"true",)))

    def admit() -> None:
        for _ in range(TIMES):
            verdict, slot = accounts.admit(program, HERE)
            accounts.drop(slot)
        assert verdict == Verdict.ADMIT

    benchmark(admit)
    assert board.live == 0


def test_1000_refusals_by_address(benchmark: BenchmarkFixture) -> None:
    board = Board.create(16, 1024, 2)
    accounts = Accounts(board, board.section_claim(1))
    only_from = Ranges([(0x0A000000, 0x0AFFFFFF, Verdict.ADMIT)], ())
    program = Program(open_row(board), ExecContext(b"/bin/true", (b"true",)), ranges=only_from)

    def refuse() -> None:
        for _ in range(TIMES):
            verdict, _ = accounts.admit(program, HERE)
        assert verdict == Verdict.ADDRESS

    benchmark(refuse)
