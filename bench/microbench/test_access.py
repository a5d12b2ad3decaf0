"""Who may connect: compiling address lists (Python, once) and the look-up (core, per connection)."""

from __future__ import annotations

import socket

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastinetd.core.board import Board
from fastinetd.core.exec_context import ExecContext
from fastinetd.core.layout import Verdict
from fastinetd.core.program import Program, Ranges
from fastinetd.policy import access
from support.accounts import Accounts
from support.core import set_limits

LOOKUPS = 1000  # per measured call


@pytest.mark.parametrize("networks", [1, 1000])
def test_compile(benchmark: BenchmarkFixture, networks: int) -> None:
    """only_from with so many networks of 256 addresses, one address of them in no_access."""
    allowed = tuple(f"10.{n // 128}.{n % 128 * 2}.0/24" for n in range(networks))

    def compile_again() -> access.AccessTable:
        access._build_table.cache_clear()  # equal lists are remembered, and only the first round would count
        return access.compile_access(allowed, ("10.0.0.7",), lambda name: None)

    assert benchmark(compile_again).v4


@pytest.mark.parametrize("ranges", [1, 100, 100_000])
def test_1000_look_ups(benchmark: BenchmarkFixture, ranges: int) -> None:
    """Refusals by address. Each includes the call from Python (some 100 ns), which a real connection does not make."""
    networks = [(n << 8, (n << 8) + 127, Verdict.ADMIT) for n in range(ranges)]
    board = Board.create(1, 4, 1)
    row = board.row_claim()
    set_limits(board, row)
    board.row_times(row, 0, 2**62)
    board.row_enable(row, True)
    program = Program(row, ExecContext(b"/bin/true", (b"true",)), ranges=Ranges(networks, ()))
    accounts = Accounts(board, board.section_claim(1))
    inside, outside = socket.inet_aton("0.0.0.9"), socket.inet_aton("0.0.0.129")
    assert accounts.admit(program, inside)[0] == Verdict.ADMIT
    assert accounts.admit(program, outside) == (Verdict.ADDRESS, -1)

    def look_up() -> None:
        for _ in range(LOOKUPS):
            accounts.admit(program, outside)

    benchmark(look_up)
