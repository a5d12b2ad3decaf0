"""The core's rates: in no window of the period's length more starts than the count, and no fewer than there may be."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinetd.core.board import Board
from support.accounts import Rate
from support.core import fork, open_row, reap, set_limits

START = 5_000_000_000  # a machine that has been up for a while


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(4, 100, 2)
    yield made
    os.close(made.fd)


class Window:
    """What a rate means, in the plainest words: the oracle."""

    def __init__(self, count: int, period: int) -> None:
        self.count, self.period = count, period
        self.starts: list[int] = []

    def allows(self, now: int) -> bool:
        return sum(now - start < self.period for start in self.starts) < self.count


def crowded(starts: list[int], count: int, period: int) -> bool:
    """Whether some window of the period's length holds more than `count` of the starts."""
    starts = sorted(starts)
    return any(later - first < period for first, later in zip(starts, starts[count:]))


counts, periods = st.integers(1, 9), st.sampled_from([1, 1000, 10**9])
steps = st.lists(st.tuples(st.floats(0, 0.7), st.booleans()), max_size=80)


@given(counts, periods, steps)
@settings(deadline=None)
def test_exact(count: int, period: int, steps: list[tuple[float, bool]]) -> None:
    """Each verdict is the oracle's, whenever clients come and whatever starts are given back at once."""
    board = Board.create(1, 1, 1)
    try:
        row = open_row(board, rate_count=count, rate_period=period)
        rate = Rate(board, row)
        oracle, now = Window(count, period), START
        for gap, given_back in steps:
            now += int(gap * period)
            taken = rate.take(now)
            assert (taken is not None) == oracle.allows(now)
            if taken is not None and given_back:
                rate.give(*taken)
            elif taken is not None:
                oracle.starts.append(now)
    finally:
        os.close(board.fd)


@given(counts, steps, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_never_above(count: int, steps: list[tuple[float, bool]], random: object) -> None:
    """Nor when starts are given back late, or by processes whose clock was read a little earlier."""
    board = Board.create(1, 1, 1)
    try:
        now, period = START, 1000
        row = open_row(board, rate_count=count, rate_period=period)
        rate = Rate(board, row)
        held: list[tuple[int, int, int]] = []
        starts: list[int] = []
        for gap, given_back in steps:
            now += int(gap * period)
            taken = rate.take(now - random.randrange(40))  # type: ignore[attr-defined]
            if taken is not None:
                held.append(taken)
                starts.append(taken[0])
            if given_back and held:
                back = held.pop(random.randrange(len(held)))  # type: ignore[attr-defined]
                starts.remove(back[0])
                rate.give(*back)
            assert not crowded(starts, count, period)
        now += 2 * period
        assert all(rate.take(now) for _ in range(count)), "after a rest all of it is there"
        assert rate.take(now) is None
    finally:
        os.close(board.fd)


def test_all_of_the_room(board: Board) -> None:
    row = open_row(board, rate_count=4096, rate_period=10**9)
    rate = Rate(board, row)
    assert all(rate.take(START) for _ in range(4096))
    assert rate.take(START + 10**9 - 1) is None
    assert all(rate.take(START + 10**9) for _ in range(4096))
    with pytest.raises(ValueError, match="room for 4096"):
        open_row(board, rate_count=4097, rate_period=1)


def test_a_start_given_back_late_is_there_again(board: Board) -> None:
    """Though others were taken since: the next who comes has it."""
    row = open_row(board, rate_count=8, rate_period=10**9)
    rate = Rate(board, row)
    taken = [rate.take(START + turn) for turn in range(8)]
    assert rate.take(START + 9) is None
    for payment in taken[2:6]:
        assert payment is not None
        rate.give(*payment)
        rate.give(*payment)  # once is enough
    assert sum(rate.take(START + 10) is not None for _ in range(8)) == 4


def test_more_of_them_after_a_reload(board: Board) -> None:
    """What was started counts on, and what is added is there at once."""
    row = open_row(board, rate_count=3, rate_period=10**9)
    rate = Rate(board, row)
    assert [rate.take(START) is not None for _ in range(4)] == [True] * 3 + [False]
    set_limits(board, row, rate_count=5, rate_period=10**9)
    assert [rate.take(START + 1) is not None for _ in range(3)] == [True] * 2 + [False]
    set_limits(board, row, rate_count=2, rate_period=10**9)
    assert rate.take(START + 2) is None
    assert [rate.take(START + 10**9 + 2) is not None for _ in range(3)] == [True] * 2 + [False]
    set_limits(board, row, rate_count=5, rate_period=10**9)
    assert [rate.take(START + 10**9 + 3) is not None for _ in range(4)] == [True] * 3 + [False]


def test_starts_given_back_before_fewer_are_allowed(board: Board) -> None:
    """The cells they leave free are beyond the new number: after the reload nobody is let in for them."""
    row = open_row(board, rate_count=8, rate_period=10**9)
    rate = Rate(board, row)
    taken = [rate.take(START) for _ in range(8)]
    for payment in taken[2:6]:
        assert payment is not None
        rate.give(*payment)
    set_limits(board, row, rate_count=2, rate_period=10**9)
    assert rate.take(START + 1) is None
    assert [rate.take(START + 10**9) is not None for _ in range(3)] == [True] * 2 + [False]


def test_another_service_on_the_row(board: Board) -> None:
    row = open_row(board, rate_count=2, rate_period=10**9)
    rate = Rate(board, row)
    for _ in range(2):
        rate.take(START)
    board.row_release(row)
    assert open_row(board, rate_count=2, rate_period=10**9) == row
    assert rate.take(START)


def test_who_comes_late_with_an_early_clock(board: Board) -> None:
    """A start that was given back leaves no trace, but the one before it in the same cell does."""
    row = open_row(board, rate_count=1, rate_period=1000)
    rate = Rate(board, row)
    assert rate.take(START)
    taken = rate.take(START + 1005)
    assert taken is not None
    rate.give(*taken)
    assert rate.take(START + 950) is None  # it was stopped between its look at the clock and now
    assert rate.take(START + 1005)


def test_several_processes(board: Board) -> None:
    """They take and give back at once, and one after another is killed in the midst of it; exact all the same."""
    count, period = 7, 400_000
    row = open_row(board, rate_count=count, rate_period=period)
    reader, writer = os.pipe()

    def work() -> None:
        rate, turn = Rate(board, row), 0
        while True:
            taken = rate.take(time.monotonic_ns())
            turn += 1
            if taken is not None and turn % 3:
                rate.give(*taken)
            elif taken is not None:
                os.write(writer, struct.pack("=q", taken[0]))

    starts: list[int] = []
    for _ in range(12):
        pids = [fork(work) for _ in range(3)]
        for _ in range(300):
            starts.append(struct.unpack("=q", os.read(reader, 8))[0])
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert [reap(pid) for pid in pids] == [-signal.SIGKILL] * 3
    os.set_blocking(reader, False)
    while True:
        try:
            starts.append(struct.unpack("=q", os.read(reader, 8))[0])
        except BlockingIOError:
            break
    assert not crowded(starts, count, period)
    rate, now = Rate(board, row), time.monotonic_ns() + period
    assert all(rate.take(now) for _ in range(count)), "what the dead took is free after one period"
    assert rate.take(now) is None
    os.close(reader)
    os.close(writer)
