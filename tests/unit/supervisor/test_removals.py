"""Removed services: when their servers are told, and when their rows are freed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from fastinetd.core.board import Board
from fastinetd.plan.model import Mode, Plan
from fastinetd.services.installed import InstalledService
from fastinetd.supervisor.removals import DRAINS, Removals
from fastinetd.system.loop import Loop
from support.core import close_loop, open_row, program
from support.waiting import planned


@dataclass
class Generation:
    """Which of its roles are there still."""

    accepts: bool = True
    relays: bool = False


class Kit:
    def __init__(self) -> None:
        self.board = Board.create(2, 4, 1)
        self.loop = Loop(lambda text: None)
        self.freed: list[int] = []
        self.parting = Removals(
            self.board, self, self.loop,  # type: ignore[arg-type]
            tell=lambda pid, number: None, forget=lambda row: None, drain=lambda: None, reopen=lambda row: None,
        )

    def free(self, row: int) -> None:
        self.freed.append(row)

    def removed(self, mode: Mode) -> InstalledService:
        row = open_row(self.board)
        return InstalledService(row, replace(planned(1), mode=mode), program(row))

    def drain(self) -> None:
        """As often as it takes to free what may be freed."""
        for _ in range(DRAINS + 1):
            self.parting.drained()


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    close_loop(made.loop)
    os.close(made.board.fd)


def test_every_generation_that_may_start_a_server_is_waited_for(kit: Kit) -> None:
    """One before the last has a client whose name is asked for."""
    first, last = Generation(), Generation()
    service = kit.removed(Mode.NOWAIT)
    kit.parting.begin([service], Plan(), [first, last])  # type: ignore[list-item]
    last.accepts = False
    kit.parting.role_ended()
    kit.drain()
    assert kit.freed == []
    first.accepts = False
    kit.parting.role_ended()
    kit.drain()
    assert kit.freed == [service.row]


def test_a_relay_that_may_start_a_session_is_waited_for(kit: Kit) -> None:
    """By its own services alone."""
    before = Generation(accepts=False, relays=True)
    builtin, other = kit.removed(Mode.BUILTIN), kit.removed(Mode.NOWAIT)
    kit.parting.begin([builtin, other], Plan(), [before])  # type: ignore[list-item]
    kit.drain()
    assert kit.freed == [other.row]
    before.relays = False
    kit.parting.role_ended()
    kit.drain()
    assert kit.freed == [other.row, builtin.row]
