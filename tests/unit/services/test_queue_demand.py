"""How many servers a shared queue calls for: with looks and times that the test makes up."""

from __future__ import annotations

import pytest

from fastinetd.services import queue_demand
from fastinetd.services.queue_demand import LOOKS_PER_PAUSE, QueueDemand


@pytest.fixture
def demand(monkeypatch: pytest.MonkeyPatch) -> QueueDemand:
    """Of a queue for which one server has just been started, with a pause of a second."""
    monkeypatch.setattr(queue_demand, "FIRST_PAUSE", 0.5)
    made = QueueDemand(4.0)
    made.server_started(10.0, helped=False)
    assert made.pause == 1.0
    return made


def test_a_queue_that_stands_calls_for_another(demand: QueueDemand) -> None:
    assert demand.next_look == demand.pause / LOOKS_PER_PAUSE
    assert not demand.calls_for_another(1, 10.9)
    assert demand.calls_for_another(1, 11.0)


def test_a_queue_that_was_empty_once_has_servers_enough(demand: QueueDemand) -> None:
    demand.queue_emptied(1)
    assert demand.pause == 0.5
    assert not demand.calls_for_another(1, 20.0)  # a new pause begins
    assert not demand.calls_for_another(1, 20.4)
    assert demand.calls_for_another(1, 20.5)


def test_pauses_grow_while_servers_do_not_help(demand: QueueDemand) -> None:
    pauses = []
    for _ in range(3):
        demand.server_started(10.0, helped=False)
        pauses.append(demand.pause)
    assert pauses == [2.0, 4.0, 4.0]
    demand.server_started(10.0, helped=True)
    assert demand.pause == 0.5


def test_whoever_ends_is_replaced_at_once(demand: QueueDemand) -> None:
    """The queue has called for two servers since it was empty last; one of them has ended."""
    assert demand.calls_for_another(1, 11.0)
    demand.server_started(11.0, helped=True)
    assert not demand.calls_for_another(2, 11.1)
    assert demand.calls_for_another(1, 11.1)


def test_who_may_not_be_started_is_called_for_later_and_later(demand: QueueDemand) -> None:
    assert demand.calls_for_another(1, 11.0)
    demand.server_refused(1)
    assert demand.pause == 2.0
    assert not demand.calls_for_another(1, 11.0)
    assert not demand.calls_for_another(1, 12.9)
    assert demand.calls_for_another(1, 13.0)
