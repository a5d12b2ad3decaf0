"""Fixtures of the tests of log sinks."""

from __future__ import annotations

import pytest

from support.logs import Clock, Reports


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports() -> Reports:
    return []
