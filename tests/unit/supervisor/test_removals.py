"""Removed services: when their servers are told, and when their rows are freed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.core.board import Board
from fastinetd.plan.model import Mode, Plan, PlannedService
from fastinetd.services.installed import InstalledService
from fastinetd.supervisor.removals import JOURNAL_READS, Removals
from support.accounts import Accounts
from support.core import open_row, program
from support.waiting import planned


@dataclass
class Generation:
    """Which of its roles are there still."""

    may_start_servers: bool = True
    accepted: Mode | None = None

    def may_accept(self, planned: PlannedService) -> bool:
        return planned.mode is self.accepted


class Kit:
    def __init__(self) -> None:
        self.board = Board.create(2, 4, 1)
        self.freed: list[int] = []
        self.forgotten: list[int] = []
        self.reopened: list[int] = []
        self.wake_ups = 0
        children: Any = SimpleNamespace(signal=lambda pid, number: None)
        log: Any = SimpleNamespace(forget=self.forgotten.append)
        closed_ports: Any = SimpleNamespace(reopen=self.reopened.append)
        services: Any = SimpleNamespace(free=self.freed.append)
        journal: Any = SimpleNamespace(wake=self.wake)
        self.removals = Removals(self.board, services, children, log, closed_ports, journal)

    def wake(self) -> None:
        self.wake_ups += 1

    def removed(self, mode: Mode) -> InstalledService:
        row = open_row(self.board)
        return InstalledService(row, replace(planned(1), mode=mode), program(row))

    def read(self) -> None:
        """The journal is read as often as it takes to free what may be freed."""
        for _ in range(JOURNAL_READS + 1):
            self.removals.free_rows()


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    os.close(made.board.fd)


def test_every_generation_that_may_start_a_server_is_waited_for(kit: Kit) -> None:
    """One before the last has a client whose name is asked for."""
    first, last = Generation(), Generation()
    service = kit.removed(Mode.NOWAIT)
    kit.removals.begin([service], Plan(), [first, last])  # type: ignore[list-item]
    last.may_start_servers = False
    kit.removals.role_ended()
    kit.read()
    assert kit.freed == []
    first.may_start_servers = False
    kit.removals.role_ended()
    kit.read()
    assert kit.freed == [service.row]


@pytest.mark.parametrize("mode", [Mode.BUILTIN, Mode.WAIT], ids=["the relay's", "another role's"])
def test_a_role_that_may_start_a_session_is_waited_for(kit: Kit, mode: Mode) -> None:
    """By the services that it accepts alone."""
    before = Generation(may_start_servers=False, accepted=mode)
    service, other = kit.removed(mode), kit.removed(Mode.NOWAIT)
    kit.removals.begin([service, other], Plan(), [before])  # type: ignore[list-item]
    kit.read()
    assert kit.freed == [other.row]
    before.accepted = None
    kit.removals.role_ended()
    kit.read()
    assert kit.freed == [other.row, service.row]


def test_the_journal_is_read_until_the_row_is_free(kit: Kit) -> None:
    """Whoever reads is woken, asked to read again, and asked no more once nothing is left of the service."""
    service = kit.removed(Mode.NOWAIT)
    kit.removals.begin([service], Plan(), [])
    assert kit.wake_ups == 1
    assert kit.reopened == [service.row]
    assert [kit.removals.free_rows() for _ in range(JOURNAL_READS + 1)] == [True] * JOURNAL_READS + [False]
    assert kit.freed == kit.forgotten == [service.row]


def test_while_a_server_runs_nothing_is_read_for_its_sake(kit: Kit) -> None:
    service = kit.removed(Mode.NOWAIT)
    accounts = Accounts(kit.board, kit.board.section_claim(1))
    slot = accounts.admit(service.program, bytes([10, 0, 0, 1]))[1]
    kit.removals.begin([service], Plan(), [])
    assert not kit.removals.free_rows()
    accounts.drop(slot)
    kit.read()
    assert kit.freed == [service.row]


def test_a_service_that_comes_back_keeps_its_row(kit: Kit) -> None:
    service = kit.removed(Mode.NOWAIT)
    kit.removals.begin([service], Plan(), [])
    kit.removals.take_back([service.row])
    kit.read()
    assert kit.freed == kit.forgotten == []
