"""Fixtures of the tests of log sinks, and of pools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.logs import Clock, Reports
from support.pooled import Pooled


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
