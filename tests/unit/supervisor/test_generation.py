"""A generation's roles: forked, replaced when they die, retired in order."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest

from fastinetd.core.board import Board
from fastinetd.core.layout import Method, Verdict
from fastinetd.core.program import Pool, Ranges
from fastinetd.plan.model import Mode
from fastinetd.policy.access import compile_access
from fastinetd.supervisor.channels import Channels
from fastinetd.supervisor.duties import Duties, programs_of
from fastinetd.supervisor.generation import Generation, Unready
from fastinetd.supervisor.role_specs import ROLES, RoleSpec, Work
from fastinetd.supervisor.roles import Role
from fastinetd.system.loop import Loop
from support.core import HOUR, close_loop, has_children, open_row, program, until
from support.proc import PATIENCE, title, wait_for

NEW_MODE = Mode.WAIT
"""One that no role of the daemon accepts."""


class Said:
    """Error messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, text: str) -> None:
        self.lines.append(text)

    def debug(self, text: str) -> None:
        """Nobody asked to be told more."""


class Kit:
    """A generation with two acceptors and a relay, and a doorman if names decide."""

    def __init__(self, *, names: bool = False, started: bool = True) -> None:
        self.board = Board.create(3, 64, 16)
        self.board.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.said = Said()
        self.loop = Loop(self.said.error)
        self.listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        for listener in self.listeners:
            listener.setblocking(False)
        asking = Ranges([(0, 2**32 - 1, Verdict.ASK)], []) if names else None
        rows = [open_row(self.board) for _ in range(3)]
        programs = [program(rows[0], "/bin/echo", "hello", ranges=asking), program(rows[1], builtin=1),
                    program(rows[2])]
        self.ended: list[tuple[str, int]] = []
        self.role_pids: set[int] = set()
        self.children = SimpleNamespace(role_forked=self.role_pids.add, role_reaped=self.role_pids.remove)
        self.reader = self.board.reader()
        self.generation = Generation(
            self.board, self.loop, self.said,  # type: ignore[arg-type]
            Duties(
                acceptors=2,
                programs={
                    Mode.NOWAIT: [(self.listeners[0].fileno(), programs[0])],
                    Mode.BUILTIN: [(self.listeners[1].fileno(), programs[1])],
                    NEW_MODE: [(self.listeners[2].fileno(), programs[2])],
                },
                tables={rows[0]: compile_access(("localhost",), None, lambda name: None)} if names else {},
                asks_itself=False,
                services=[],
                unserved=[],
                metrics=None,
                library=-1,
                reader=self.reader,
                version="0",
            ),
            self.children,  # type: ignore[arg-type]
            self.role_ended,
        )  # fmt: skip
        if started:
            self.generation.start()

    def role_ended(self, role: Role, status: int) -> None:
        self.ended.append((role.title, os.waitstatus_to_exitcode(status)))
        if role.section is not None:
            self.board.adopt(role.section, 0)
            self.board.section_release(role.section)

    def titles(self) -> list[str]:
        return sorted(role.title for role, _ in self.generation.roles.values())

    def pid(self, title: str) -> int:
        (found,) = (pid for pid, (role, _) in self.generation.roles.items() if role.title == title)
        return found

    def until(self, condition: Callable[[], object]) -> None:
        until(self.loop, condition, self.said.lines)

    def answer(self, which: int, says: bytes = b"") -> bytes:
        with socket.create_connection(self.listeners[which].getsockname(), PATIENCE) as client:
            if says:
                client.sendall(says)
            return client.recv(100)

    def close(self) -> None:
        self.generation.abandon()
        self.until(lambda: not self.generation.roles)
        assert not self.role_pids
        while has_children():  # servers of acceptors that are gone are nobody's here
            os.waitpid(-1, 0)
        for listener in self.listeners:
            listener.close()
        for descriptor in (self.reader, self.board.wake, self.board.fd):
            os.close(descriptor)
        close_loop(self.loop)


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
    named.board.row_limits(row, instances=None, per_source=None, over_rate=0, rate_count=1, rate_period=HOUR,
                           rate_pause=0, max_load=0.0)
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
    exec_, workers = program(1000), [program(row, pool=Pool(Method.WORKER, 1, 1, 1)) for row in rows]
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

    return RoleSpec(kind="tester", work=work, numbered=True, accepts=accepts, has_section=True, has_pools=False,
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
    kit = one_more(another_kind(runs_until_it_is_told, NEW_MODE, leaves_sessions=in_process))
    assert not kit.generation.may_accept(NEW_MODE)
    kit.generation.start_whole()
    assert all(kit.generation.may_accept(mode) for mode in Mode)
    for acceptor in ("acceptor 1", "acceptor 2"):
        role, _ = kit.generation.roles[kit.pid(acceptor)]
        role.retire()
    kit.generation.retired = True  # nobody takes their places
    kit.until(lambda: not kit.generation.may_accept(Mode.NOWAIT))
    assert kit.generation.may_accept(NEW_MODE)
    assert kit.generation.may_start_servers is not in_process
    assert kit.generation.server_listeners == (frozenset() if in_process else {kit.listeners[2].fileno()})
    kit.generation.retire()
    kit.until(lambda: not kit.generation.may_accept(NEW_MODE))
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
