"""How the daemon ends: whom it signals, whom it waits for, and that it ends whatever goes wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.supervisor import departure
from fastinetd.supervisor.departure import Departure
from fastinetd.system.loop import Loop
from support.core import close_loop


class Kit:
    """The parts that a departure works with, and what it did with them."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.signals: list[tuple[int, int]] = []
        self.steps: list[str] = []
        self.servers: set[int] = set()
        self.roles: set[int] = set()
        self.fault: Exception | None = None
        self.loop = Loop(self.errors.append)
        self.serving: object = self
        parts: Any = self
        options: Any = SimpleNamespace(metrics=None, stopping=lambda: self.steps.append("pid file removed"))
        messages: Any = SimpleNamespace(warning=self.warnings.append, info=self.steps.append)
        log: Any = SimpleNamespace(close=lambda: self.steps.append("log closed"))
        status: Any = SimpleNamespace(stopping=lambda: self.steps.append("stopping"))
        self.departure = Departure(options, parts, self.loop, messages, parts, parts, parts, parts, log, status)

    def __iter__(self) -> Iterator[Kit]:
        return iter([self])

    def slots_in_use(self) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.servers]

    def signal(self, pid: int, number: int) -> None:
        self.signals.append((pid, number))

    def abandon(self) -> None:
        self.serving = None
        if self.fault is not None:
            raise self.fault

    def read(self) -> bool:
        return False

    def finish(self) -> None:
        self.steps.append("workers' words written")

    def run(self, *, within: float = 20.0) -> None:
        """Let the loop turn until the daemon has left."""
        guard = self.loop.later(within, self.give_up)
        self.loop.run()
        guard.cancel()

    def give_up(self) -> None:
        self.errors.append("it does not end")
        self.loop.stop()


ENDED = ["workers' words written", "Exiting...", "log closed"]


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    monkeypatch.setattr(departure, "SERVERS_END_WITHIN", 0.3)
    monkeypatch.setattr(departure, "ROLES_LEAVE_WITHIN", 0.1)
    made = Kit()
    yield made
    close_loop(made.loop)
    assert os.getpid() not in {pid for pid, _ in made.signals}


def test_servers_are_signalled_once_and_waited_for(kit: Kit) -> None:
    kit.servers = {11, 12}
    kit.loop.later(0.0, kit.departure.terminate)
    kit.loop.later(0.1, lambda: kit.servers.update({13}))  # an acceptor finishes what it has in hand
    kit.loop.later(0.2, kit.servers.clear)
    kit.run()
    assert sorted(kit.signals) == [(11, signal.SIGTERM), (12, signal.SIGTERM), (13, signal.SIGTERM)]
    assert kit.steps == ["stopping", "pid file removed", "stopping", "pid file removed", *ENDED]
    assert kit.errors == kit.warnings == []


def test_a_server_that_stays_is_left_and_said(kit: Kit) -> None:
    kit.servers = {11}
    kit.loop.later(0.0, kit.departure.terminate)
    kit.run()
    assert kit.warnings == ["server with pid 11 did not end on SIGTERM and is left running"]


def test_sigquit_leaves_servers_alone(kit: Kit) -> None:
    kit.servers = {11}
    kit.loop.later(0.0, kit.departure.leave)
    kit.run()
    assert kit.signals == []
    assert kit.steps == ["stopping", "pid file removed", *ENDED]


def test_a_role_that_stays_is_killed(kit: Kit) -> None:
    kit.roles = {21}
    kit.loop.later(0.0, kit.departure.leave)
    kit.run()
    assert kit.signals == [(21, signal.SIGKILL)]


@pytest.mark.parametrize("how", ["terminate", "leave"])
def test_it_ends_whatever_goes_wrong(kit: Kit, how: str) -> None:
    """As when there is no memory to close something: that is logged, and a second signal is not needed."""
    kit.fault = MemoryError()
    kit.loop.later(0.0, getattr(kit.departure, how))
    kit.run()
    assert kit.steps[-3:] == ENDED
    assert kit.errors
    assert all("MemoryError in " in error for error in kit.errors)
