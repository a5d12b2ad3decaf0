"""Fixtures of the tests of log sinks, of pools, and of wait services."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from support.core import PATIENCE
from support.logs import Clock, Reports
from support.pooled import Pooled
from support.waiting import Kit


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
def kit() -> Iterator[Kit]:
    """Wait services."""
    made = Kit()
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """Theirs, for datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(PATIENCE)
        yield made
