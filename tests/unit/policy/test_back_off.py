"""Pauses that grow with each failure in a row."""

from __future__ import annotations

import pytest

from fastinetd.policy.back_off import BackOff


def test_pauses_double_up_to_the_ceiling() -> None:
    back_off = BackOff()
    assert back_off.pause == 0
    pauses = [back_off.failed() for _ in range(11)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])
    assert back_off.pause == pauses[-1]


def test_other_numbers() -> None:
    back_off = BackOff(first=1.0, ceiling=10.0)
    assert [back_off.failed() for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, 10.0]


def test_success_ends_the_row() -> None:
    back_off = BackOff()
    for _ in range(5):
        back_off.failed()
    back_off.succeeded()
    assert back_off.pause == 0
    assert back_off.failed() == 0.1
