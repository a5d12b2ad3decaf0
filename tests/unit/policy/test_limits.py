"""Rates and pauses: what the numbers promise, on a clock the tests turn."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.config.model import Rate
from fastinetd.policy.limits import NO_LIMIT, RATE_CELLS, BackOff, rate_numbers

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("rate", "numbers"),
    [
        (None, NO_LIMIT),
        (Rate(0), NO_LIMIT),
        (Rate(-1), NO_LIMIT),
        (Rate(5, 0.0), NO_LIMIT),
        (Rate(1), (1, SECOND)),
        (Rate(50), (50, SECOND)),
        (Rate(256, 60.0), (256, 60 * SECOND)),
        (Rate(1, 0.5), (1, SECOND // 2)),
        (Rate(4096), (4096, SECOND)),
        (Rate(4097), (2048, SECOND // 2)),
        (Rate(10_000), (3333, SECOND // 3 + 1)),
        (Rate(2**63), (4096, 1)),
    ],
)
def test_numbers(rate: Rate | None, numbers: tuple[int, int]) -> None:
    assert rate_numbers(rate) == numbers


@given(st.integers(1, 2**63), st.floats(1e-9, 1e30))
def test_numbers_fit_the_core(count: int, seconds: float) -> None:
    starts, period = rate_numbers(Rate(count, seconds))
    assert 1 <= starts <= min(count, RATE_CELLS)
    assert 1 <= period <= 2**60


@given(st.integers(1, 10**6), st.sampled_from([1.0, 60.0]))
def test_a_divided_rate_is_not_exceeded(count: int, seconds: float) -> None:
    """In no window of its length, and it falls short by less than one start for each part."""
    starts, period = rate_numbers(Rate(count, seconds))
    parts = -(-int(seconds * SECOND) // period)
    assert parts * starts <= count < parts * (starts + 1)


def test_pauses_double_up_to_the_ceiling() -> None:
    pause = BackOff()
    assert pause.ready(0.0)
    ends = [pause.failed(100.0) - 100.0 for _ in range(11)]
    assert ends == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])
    assert not pause.ready(129.9)
    assert pause.ready(130.0)


def test_success_ends_the_row() -> None:
    pause = BackOff()
    for _ in range(5):
        pause.failed(100.0)
    pause.succeeded()
    assert pause.ready(100.0)
    assert pause.failed(200.0) == pytest.approx(200.1)


def test_waiting_out_a_pause_does_not_end_the_row() -> None:
    pause, now = BackOff(first=1.0, factor=3.0, ceiling=10.0), 50.0
    ends = []
    for _ in range(4):
        now = pause.failed(now)
        assert pause.ready(now)
        ends.append(now)
    assert [b - a for a, b in pairwise([50.0, *ends])] == [1.0, 3.0, 9.0, 10.0]


def test_a_pause_can_be_carried_over() -> None:
    old, new = BackOff(), BackOff()
    old.failed(7.0)
    new.pause, new.until = old.pause, old.until
    assert not new.ready(7.05)
    assert new.failed(7.2) == pytest.approx(7.4)
