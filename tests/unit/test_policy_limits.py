"""Rates and pauses: what the numbers promise, on a clock the tests turn."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.config.model import Rate
from fastinetd.policy.limits import NO_LIMIT, BackOff, Gcra, rate_numbers

SECOND = 1_000_000_000
START = 5 * SECOND  # a machine that has been up for a while


@pytest.mark.parametrize(
    ("rate", "numbers"),
    [
        (None, NO_LIMIT),
        (Rate(0), NO_LIMIT),
        (Rate(-1), NO_LIMIT),
        (Rate(5, 0.0), NO_LIMIT),
        (Rate(1), (SECOND, 0)),
        (Rate(5), (SECOND // 5, 4 * SECOND // 5)),
        (Rate(3), (333_333_334, 666_666_668)),
        (Rate(25, 60.0), (2_400_000_000, 57_600_000_000)),
        (Rate(1, 0.5), (SECOND // 2, 0)),
        (Rate(10 * SECOND), (1, 10 * SECOND - 1)),
    ],
)
def test_numbers(rate: Rate | None, numbers: tuple[int, int]) -> None:
    assert rate_numbers(rate) == numbers


@given(st.integers(1, 2**63), st.floats(1e-9, 1e30))
def test_numbers_fit_the_word(count: int, seconds: float) -> None:
    increment, tolerance = rate_numbers(Rate(count, seconds))
    assert 0 < increment < 2**61
    assert 0 <= tolerance < 2**61


def test_count_at_once_then_one_by_one() -> None:
    rate = Gcra(Rate(5))
    assert [rate.admit(START) for _ in range(7)] == [True] * 5 + [False] * 2
    fifth = SECOND // 5
    assert not rate.admit(START + fifth - 1)
    assert rate.admit(START + fifth)
    assert not rate.admit(START + fifth)
    assert [rate.admit(START + 10 * SECOND) for _ in range(6)] == [True] * 5 + [False]


def test_a_refusal_costs_nothing() -> None:
    rate = Gcra(Rate(2))
    for _ in range(100):
        rate.admit(START)
    assert rate.ready_at(START) == START + SECOND // 2
    assert rate.admit(rate.ready_at(START))


def test_no_rate_admits_all_and_keeps_no_state() -> None:
    rate = Gcra(None)
    assert all(rate.admit(START) for _ in range(1000))
    assert (rate.tat, rate.ready_at(START)) == (0, START)


rates = st.builds(Rate, st.integers(1, 20), st.sampled_from([0.1, 1.0, 2.0, 60.0]))
gaps = st.lists(st.integers(0, SECOND), min_size=1, max_size=200)


@given(rates, gaps)
def test_the_rate_is_held_in_every_window(rate: Rate, gaps: list[int]) -> None:
    gcra, now, admitted = Gcra(rate), START, []
    for gap in gaps:
        now += gap
        if gcra.admit(now):
            admitted.append(now)
    period = int(rate.seconds * SECOND)
    for index, first in enumerate(admitted):
        for span in (1, 2, 5):
            inside = sum(first <= moment < first + span * period for moment in admitted[index:])
            assert inside <= (span + 1) * rate.count


@given(rates, gaps)
def test_ready_at_is_the_first_moment(rate: Rate, gaps: list[int]) -> None:
    gcra, now = Gcra(rate), START
    for gap in gaps:
        now += gap
        ready = gcra.ready_at(now)
        if ready > now:
            assert not gcra.admit(now)
            assert not gcra.admit(ready - 1)
            now = ready
        assert gcra.admit(now)


@given(rates)
def test_a_steady_stream_within_the_rate_always_passes(rate: Rate) -> None:
    gcra = Gcra(rate)
    assert all(gcra.admit(START + turn * gcra.increment) for turn in range(100))


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
