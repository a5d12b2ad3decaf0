"""Fixtures of the tests of log sinks, of pools, and of wait services."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings

from fastinetd.services import wait
from support.logs import Clock, Reports
from support.pooled import Pooled
from support.proc import PATIENCE, descriptors
from support.waiting import Kit

settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")
"""How long one example takes says only how busy the machine is."""

KEPT = ("/proc/loadavg", "_stage.")
"""Files that are opened once, by the first test that needs them."""


@pytest.fixture(autouse=True)
def descriptors_given_back() -> Iterator[None]:
    """Each test closes what it opens: what is left fills the numbers below 64, which processes of pools are made by."""
    before = descriptors(os.getpid())
    yield
    if left_open(before):
        gc.collect()
        assert not left_open(before)


def left_open(before: dict[int, str]) -> dict[int, str]:
    return {
        number: what for number, what in descriptors(os.getpid()).items()
        if before.get(number) != what and not any(each in what for each in KEPT)
    }  # fmt: skip


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports() -> Reports:
    return []


@pytest.fixture
def pooled() -> Iterator[Pooled]:
    made = Pooled()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    """Wait services, of which every server counts as one that ends soon after its start, however slow the machine
    is."""
    monkeypatch.setattr(wait, "READ_WITHIN", 3600.0)
    made = Kit()
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """A bound UDP socket, for the tests of wait services."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(PATIENCE)
        yield made


@pytest.fixture
def groups_of_a_login() -> Iterator[None]:
    """Root has supplementary groups; where no login has given it any, there are none to leave behind."""
    before = os.getgroups()
    os.setgroups([0, 4])
    yield
    os.setgroups(before)
