"""A generation's roles: forked, replaced when they die, retired in order."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
from collections.abc import Iterator

import pytest

from fastinetd.core.layout import Method, Verdict
from fastinetd.supervisor.duties import programs_of
from fastinetd.supervisor.roles import Role
from support.core import HOUR, pool_of, program, set_limits
from support.generations import Kit
from support.proc import PATIENCE, title, wait_for


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    made.close()


@pytest.fixture
def named() -> Iterator[Kit]:
    made = Kit(names=True)
    yield made
    made.close()


def test_roles(kit: Kit) -> None:
    assert kit.titles() == ["acceptor 1", "acceptor 2", "relay"]
    assert kit.generation.may_start_servers
    assert kit.generation.server_listeners == {kit.listeners[0].fileno()}
    sections = [role.section for role, _ in kit.generation.roles.values()]
    assert len({*sections}) == 3
    assert kit.answer(0) == b"hello\n"
    assert kit.answer(1, b"echo") == b"echo"


def test_who_is_asked_about_gets_back_what_he_paid(named: Kit) -> None:
    """A generation that must leave at once, while the daemon goes on, takes no start with it that was none."""
    row = 0
    set_limits(named.board, row, rate_count=1, rate_period=HOUR)
    doorman = named.pid("doorman")
    # Until it has its name, it may still have copies of the others' life lines.
    wait_for(lambda: title(doorman) == "fastinetd: doorman", "it has started")
    os.kill(doorman, signal.SIGSTOP)
    with socket.create_connection(named.listeners[0].getsockname(), PATIENCE) as client:
        named.until(lambda: named.board.counters(row).accepted == 1)
        assert named.board.rate_wait(row) > 0
        named.generation.abandon()
        named.until(lambda: not named.generation.may_start_servers)
        assert client.recv(10) == b""
    os.kill(doorman, signal.SIGCONT)
    assert named.board.rate_wait(row) == 0
    assert named.board.counters(row).rejected[Verdict.DOORMAN] == 1


@pytest.mark.parametrize(("count", "serving"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (17, 8)])
def test_workers_are_with_half_of_the_acceptors(count: int, serving: int) -> None:
    """With the same ones for all listeners of a service, and each acceptor with as many services as the others."""
    rows = range(2 * count)
    exec_, pool = program(1000), pool_of(Method.WORKER, least=1, most=1, workers=1)
    workers = [program(row, pool=pool) for row in rows]
    programs = [(5, exec_), *((10 * row + listener, workers[row]) for row in rows for listener in (0, 1))]
    served = [programs_of(number, count, programs) for number in range(1, count + 1)]
    assert all((5, exec_) in each for each in served)
    assert {len(each) for each in served} == {1 + 2 * 2 * serving}
    for row in rows:
        first, second = ({n for n, each in enumerate(served) if 10 * row + at in dict(each)} for at in (0, 1))
        assert first == second
        assert len(first) == serving


@pytest.mark.parametrize("title", ["acceptor 1", "relay"])
def test_another_takes_the_place_of_one_that_dies(kit: Kit, title: str) -> None:
    old = kit.pid(title)
    os.kill(old, signal.SIGKILL)
    kit.until(lambda: kit.ended and title in kit.titles())
    assert kit.ended == [(title, -signal.SIGKILL)]
    assert kit.pid(title) != old
    (told,) = kit.said.lines
    assert told == f"{title} (pid {old}) ended by signal 9; another takes its place"
    assert kit.answer(0) == b"hello\n"
    assert kit.answer(1, b"echo") == b"echo"


def test_one_that_keeps_dying_waits(kit: Kit) -> None:
    """At once after the first time; then with growing pauses."""
    for _ in range(2):
        before = len(kit.ended)
        kit.until(lambda: "relay" in kit.titles())
        os.kill(kit.pid("relay"), signal.SIGKILL)
        kit.until(lambda before=before: len(kit.ended) > before)  # type: ignore[misc]
    assert "relay" not in kit.titles()
    kit.until(lambda: "relay" in kit.titles())


@pytest.mark.parametrize("lack", [OSError(errno.EAGAIN, "no"), MemoryError(), LookupError("no free section")])
def test_one_that_cannot_be_forked_is_forked_later(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, lack: Exception
) -> None:
    def fork(*_: object, **__: object) -> Role:
        raise lack

    monkeypatch.setattr("fastinetd.supervisor.generation.fork_role", fork)
    os.kill(kit.pid("relay"), signal.SIGKILL)
    kit.until(lambda: len(kit.said.lines) > 1)
    monkeypatch.undo()
    assert re.fullmatch("cannot start relay: .*; it is tried again", kit.said.lines[1])
    kit.until(lambda: "relay" in kit.titles())
    assert kit.answer(1, b"echo") == b"echo"


def test_retired(kit: Kit) -> None:
    """All leave with status 0 and none is replaced."""
    kit.generation.retire()
    kit.until(lambda: not kit.generation.roles)
    assert sorted(kit.ended) == [("acceptor 1", 0), ("acceptor 2", 0), ("relay", 0)]
    assert not kit.generation.may_start_servers
    assert kit.generation.server_listeners == frozenset()
    assert kit.said.lines == []


def test_retired_after_what_is_in_hand(kit: Kit) -> None:
    with socket.create_connection(kit.listeners[1].getsockname(), PATIENCE) as client:
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        kit.generation.retire()
        kit.until(lambda: kit.titles() == ["relay"])
        client.sendall(b"2")
        assert client.recv(1) == b"2"
    kit.until(lambda: not kit.generation.roles)


def test_a_role_that_dies_in_retirement_is_not_replaced(kit: Kit) -> None:
    with socket.create_connection(kit.listeners[1].getsockname(), PATIENCE) as client:
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        kit.generation.retire()
        kit.until(lambda: kit.titles() == ["relay"])
        os.kill(kit.pid("relay"), signal.SIGKILL)
        kit.until(lambda: not kit.generation.roles)


def test_abandoned(kit: Kit) -> None:
    """At once, whatever is in hand."""
    with socket.create_connection(kit.listeners[1].getsockname(), PATIENCE) as client:
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        kit.generation.abandon()
        kit.until(lambda: not kit.generation.roles)


class TestDoorman:
    def test_is_there_when_names_decide(self, named: Kit) -> None:
        assert named.titles() == ["acceptor 1", "acceptor 2", "doorman", "relay"]

    def test_dies_and_is_replaced(self, named: Kit) -> None:
        os.kill(named.pid("doorman"), signal.SIGKILL)
        named.until(lambda: named.ended and "doorman" in named.titles())
        assert named.ended == [("doorman", -signal.SIGKILL)]

    def test_leaves_after_the_others(self, named: Kit) -> None:
        named.generation.retire()
        named.until(lambda: not named.generation.roles)
        assert named.ended[-1] == ("doorman", 0)
        assert len(named.ended) == 4


def test_who_cannot_leave_is_killed(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops roles would keep them otherwise, more with each reload, until there is no room for another."""
    monkeypatch.setattr("fastinetd.supervisor.generation.LEAVE_WITHIN", 0.1)
    kit.until(lambda: all(role.report < 0 for role, _ in kit.generation.roles.values()))
    stopped = kit.pid("relay")
    os.kill(stopped, signal.SIGSTOP)
    kit.generation.abandon()
    kit.until(lambda: not kit.generation.roles)
    assert dict(kit.ended)["relay"] == -signal.SIGKILL
    assert kit.said.lines == [f"relay (pid {stopped}) does not leave: it is stopped or hangs; it is killed"]
