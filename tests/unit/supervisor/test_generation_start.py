"""A generation comes up whole or is given up; another kind of role is a row of the table."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from fastinetd.plan.model import Mode
from fastinetd.supervisor.channels import Channels
from fastinetd.supervisor.duties import Duties
from fastinetd.supervisor.generation import Unready
from fastinetd.supervisor.role_specs import ROLES, RoleSpec, Work
from support.generations import NEW_KIND, Kit, of_mode
from support.proc import PATIENCE


@pytest.fixture
def unstarted() -> Iterator[Kit]:
    made = Kit(started=False)
    yield made
    made.close()


def test_all_are_ready(unstarted: Kit) -> None:
    unstarted.generation.start_whole()
    assert unstarted.titles() == ["acceptor 1", "acceptor 2", "relay"]
    assert all(role.ready for role, _ in unstarted.generation.roles.values())
    assert unstarted.answer(0) == b"hello\n"


def in_place_of(kind: str, what: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something else than to make a role of this kind."""
    name = {"acceptor": "Acceptor", "relay": "Relay"}[kind]
    monkeypatch.setattr(f"fastinetd.supervisor.role_specs.{name}", lambda *_: what())


def lacks_memory() -> None:
    raise MemoryError


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def is_stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize(("kind", "title"), [("acceptor", "acceptor 1"), ("relay", "relay")])
@pytest.mark.parametrize(("what", "why"), [(lacks_memory, "out of memory"), (is_killed, "it has ended")])
def test_one_that_does_not_come_up(
    unstarted: Kit, monkeypatch: pytest.MonkeyPatch, kind: str, title: str, what: Callable[[], None], why: str
) -> None:
    in_place_of(kind, what, monkeypatch)
    with pytest.raises(Unready, match=f"cannot start {title}: {why}"):
        unstarted.generation.start_whole()


def test_an_acceptor_that_says_nothing(unstarted: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastinetd.supervisor.generation.READY_WITHIN", 0.1)
    in_place_of("acceptor", is_stopped, monkeypatch)
    with pytest.raises(Unready, match="cannot start acceptor 1: it is not ready in time"):
        unstarted.generation.start_whole()
    for pid in unstarted.generation.roles:
        os.kill(pid, signal.SIGKILL)


def test_who_came_up_finishes_what_it_got(unstarted: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation that is given up had listeners for a while: its clients are served to their end."""
    monkeypatch.setattr("fastinetd.supervisor.generation.READY_WITHIN", 0.1)
    monkeypatch.setattr("fastinetd.supervisor.generation.LEAVE_WITHIN", 0.1)
    in_place_of("acceptor", is_stopped, monkeypatch)
    with pytest.raises(Unready):
        unstarted.generation.start_whole()
    with socket.create_connection(unstarted.listeners[1].getsockname(), PATIENCE) as client:
        client.sendall(b"before")
        assert client.recv(100) == b"before"
        unstarted.generation.give_up()
        unstarted.until(lambda: unstarted.titles() == ["relay"])
        client.sendall(b"after")
        assert client.recv(100) == b"after"
        assert len(unstarted.said.lines) == 2
    unstarted.until(lambda: not unstarted.generation.roles)
    assert unstarted.ended[-1] == ("relay", 0)


@pytest.mark.parametrize("what", [is_stopped, is_killed, lacks_memory])
def test_whoever_harms_the_relay_harms_nothing_else(
    unstarted: Kit, monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]
) -> None:
    """Processes of its user can, as soon as it is nobody: by then it is ready, and so nothing is given up."""
    monkeypatch.setattr("fastinetd.supervisor.roles.drop_privileges", what)
    unstarted.generation.start_whole()
    (relay,) = (role for role, _ in unstarted.generation.roles.values() if role.title == "relay")
    assert relay.ready
    assert unstarted.answer(0) == b"hello\n"
    relay.kill()


def test_why_one_ended_before_it_was_ready_is_told(unstarted: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of("relay", lacks_memory, monkeypatch)
    unstarted.generation.start()
    unstarted.until(lambda: unstarted.said.lines)
    assert re.fullmatch(r"relay \(pid \d+\) ended with status 1 \(out of memory.*\); another takes its place",
                        unstarted.said.lines[0])


def another_kind(prepared: Callable[[], Callable[[int], None]], accepts: Mode | None, *,
                 leaves_sessions: bool = False) -> RoleSpec:
    """A row for a kind of role, made of `prepared()`, that the daemon does not have."""

    def work(duties: Duties, number: int, channels: Channels) -> Work:
        return Work(lambda board, section, control: partial(prepared(), control), ())

    takes = None if accepts is None else lambda planned: planned.mode is accepts
    return RoleSpec(kind=NEW_KIND, work=work, numbered=True, accepts=takes, has_section=True, has_pools=False,
                    keeps_privileges=False, leaves_sessions=leaves_sessions, leaves_last=False)


def runs_until_it_is_told() -> Callable[[int], None]:
    def run(control: int) -> None:
        os.read(control, 1)

    return run


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[RoleSpec], Kit]]:
    """Makes a generation, not started yet, of a daemon with one more kind of role."""
    made: list[Kit] = []

    def make(spec: RoleSpec) -> Kit:
        monkeypatch.setattr("fastinetd.supervisor.generation.ROLES", (*ROLES, spec))
        made.append(Kit(started=False))
        return made[-1]

    yield make
    for kit in made:
        kit.close()


def test_a_row_is_all_that_another_kind_needs(one_more: Callable[[RoleSpec], Kit]) -> None:
    """Its processes run, serve to the end of their generation, and leave with it."""
    kit = one_more(another_kind(runs_until_it_is_told, Mode.BUILTIN))
    kit.generation.start_whole()
    assert kit.titles() == ["acceptor 1", "acceptor 2", "relay", "tester 1", "tester 2"]
    os.kill(kit.pid("tester 2"), signal.SIGKILL)
    kit.until(lambda: kit.ended and "tester 2" in kit.titles())
    kit.generation.retire()
    kit.until(lambda: not kit.generation.roles)
    assert {("tester 1", 0), ("tester 2", 0)} < {*kit.ended}


@pytest.mark.parametrize("in_process", [False, True])
def test_a_kind_with_clients_of_its_own_is_known_by_its_row(
    one_more: Callable[[RoleSpec], Kit], in_process: bool
) -> None:
    """For as long as its processes are there; what they may start servers for is theirs while they serve by servers."""
    kit = one_more(another_kind(runs_until_it_is_told, Mode.WAIT, leaves_sessions=in_process))
    assert not kit.generation.may_accept(of_mode(Mode.WAIT))
    kit.generation.start_whole()
    assert all(kit.generation.may_accept(of_mode(mode)) for mode in Mode)
    for acceptor in ("acceptor 1", "acceptor 2"):
        role, _ = kit.generation.roles[kit.pid(acceptor)]
        role.retire()
    kit.generation.retired = True  # nobody takes their places
    kit.until(lambda: not kit.generation.may_accept(of_mode(Mode.NOWAIT)))
    assert kit.generation.may_accept(of_mode(Mode.WAIT))
    assert kit.generation.may_start_servers is not in_process
    assert kit.generation.server_listeners == (frozenset() if in_process else {kit.listeners[2].fileno()})
    kit.generation.retire()
    kit.until(lambda: not kit.generation.may_accept(of_mode(Mode.WAIT)))
    assert not kit.generation.may_start_servers


@pytest.mark.parametrize("accepts", [Mode.BUILTIN, None])
def test_whether_a_takeover_needs_it(one_more: Callable[[RoleSpec], Kit], accepts: Mode | None) -> None:
    kit = one_more(another_kind(lacks_memory, accepts))  # type: ignore[arg-type]
    if accepts is None:
        kit.generation.start_whole()
        assert kit.answer(0) == b"hello\n"
    else:
        with pytest.raises(Unready, match="cannot start tester 1: out of memory"):
            kit.generation.start_whole()
