"""Rates: what their numbers promise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.config.model import Rate
from fastinetd.policy.limits import NO_RATE, rate_numbers

SECOND = 1_000_000_000
MOST = 4096


@pytest.mark.parametrize(
    ("rate", "numbers"),
    [
        (None, NO_RATE),
        (Rate(0), NO_RATE),
        (Rate(-1), NO_RATE),
        (Rate(5, 0.0), NO_RATE),
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
    assert rate_numbers(rate, MOST) == numbers


@given(st.integers(1, 2**63), st.floats(1e-9, 1e30))
def test_numbers_fit_the_core(count: int, seconds: float) -> None:
    starts, period = rate_numbers(Rate(count, seconds), MOST)
    assert 1 <= starts <= min(count, MOST)
    assert 1 <= period <= 2**60


@given(st.integers(1, 10**6), st.sampled_from([1.0, 60.0]))
def test_a_divided_rate_is_not_exceeded(count: int, seconds: float) -> None:
    """In no window of its length, and it falls short by less than one start for each part."""
    starts, period = rate_numbers(Rate(count, seconds), MOST)
    parts = -(-int(seconds * SECOND) // period)
    assert parts * starts <= count < parts * (starts + 1)
