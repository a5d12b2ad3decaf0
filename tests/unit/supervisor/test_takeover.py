"""What passes from one generation to another: the sockets of wait services, questions, and ports that become free."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.supervisor.role_specs import ROLES, RoleSpec
from fastinetd.supervisor.takeover import Takeover

ACCEPTOR, RELAY, DOORMAN, _ = ROLES


@dataclass
class Generation:
    """As much of one as is asked."""

    may_start_servers: bool
    server_listeners: frozenset[int]
    doorman_channel: object = None


class Kit:
    """A wait service with two sockets; what was asked of the other parts, in order."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.sockets = [socket.socket() for _ in range(2)]
        roster: Any = SimpleNamespace(wait_sockets=lambda: [("service", sock) for sock in self.sockets])
        wait_services: Any = SimpleNamespace(serve=lambda wanted: self.calls.append([sock for _, sock in wanted]))
        questions: Any = SimpleNamespace(use=self.calls.append)
        listeners: Any = SimpleNamespace(
            retry_now=lambda: self.calls.append("retried"), close=lambda: self.calls.append("closed")
        )
        removals: Any = SimpleNamespace(role_ended=lambda: self.calls.append("removals"))
        status: Any = SimpleNamespace(count_generation=lambda: self.calls.append("counted"))
        self.takeover = Takeover(roster, wait_services, questions, listeners, removals, status)

    def leave(self, spec: RoleSpec, *retiring: Generation) -> None:
        role: Any = SimpleNamespace(spec=spec)
        self.takeover.retired_role_left(role, retiring)  # type: ignore[arg-type]


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    for sock in made.sockets:
        sock.close()


def test_what_older_acceptors_may_accept_from_is_not_served(kit: Kit) -> None:
    """Whoever has left accepts no more."""
    first, second = kit.sockets
    channel = object()
    new: Any = Generation(True, frozenset(), channel)
    older: Any = Generation(True, frozenset({first.fileno()}))
    gone: Any = Generation(False, frozenset())
    kit.takeover.generation_serves(new, [older, gone])
    assert kit.calls == ["counted", [second], channel]


@pytest.mark.parametrize("spec", [ACCEPTOR, replace(ACCEPTOR, kind="another")], ids=["acceptor", "another kind"])
def test_it_is_served_once_the_last_of_them_has_left(kit: Kit, spec: RoleSpec) -> None:
    """Of whatever kind, if it starts servers."""
    older = Generation(True, frozenset({kit.sockets[0].fileno()}))
    kit.leave(spec, older)
    assert kit.calls == ["removals"]
    older.may_start_servers, older.server_listeners = False, frozenset()
    kit.leave(spec, older)
    assert kit.calls == ["removals", "removals", kit.sockets, "retried"]


@pytest.mark.parametrize("spec", [RELAY, replace(RELAY, kind="another"), DOORMAN],
                         ids=["relay", "another that serves in process", "doorman"])
def test_no_other_role_has_what_waits(kit: Kit, spec: RoleSpec) -> None:
    kit.leave(spec)
    assert kit.calls == ["removals"]


def test_the_end(kit: Kit) -> None:
    """The doorman's channel is left alone before it is closed, and sockets before their listeners are."""
    kit.takeover.stop_asking()
    kit.takeover.stop_listening()
    assert kit.calls == [None, [], "closed"]
