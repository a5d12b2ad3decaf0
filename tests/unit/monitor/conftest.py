"""Fixtures of the tests of the monitor and its metrics."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from fastinetd.core.board import Board
from fastinetd.monitor.monitor import Bounds
from support.monitored import Monitor, Start, descriptors
from support.scraped import ROWS, SECTIONS, SLOTS, Writer, status


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as stack:
        before = descriptors()

        def started(**bounds: Any) -> Monitor:
            services = int(bounds.pop("services", 2))
            made = Monitor(Bounds(**bounds) if bounds else None, services)
            stack.callback(made.close)
            return made

        yield started
        stack.close()
        assert descriptors() == before


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(ROWS, SLOTS, SECTIONS)
    for _ in range(ROWS):
        made.row_claim()
    for _ in range(2):
        made.section_claim(os.getpid())
    status(made)
    yield made
    fd = made.fd
    made.unmap()
    os.close(fd)


@pytest.fixture
def writer(board: Board) -> Iterator[Writer]:
    made = Writer(board)
    yield made
    made.memory.close()
