"""The machine of a wait service's socket: every pair of states, and its life with real servers."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from fastinetd import wait
from fastinetd._accept import Keeper
from fastinetd._board import Board, Verdict
from fastinetd._program import Ranges
from fastinetd.children import Children
from fastinetd.config.model import Place, Service
from fastinetd.loop import Loop
from fastinetd.plan import Mode, PlannedService
from fastinetd.policy.access import AccessTable
from fastinetd.rows import Installed
from fastinetd.sockets import SocketOptions
from fastinetd.starts import Start
from fastinetd.wait import TRANSITIONS, State, WaitServices, WaitSocket
from support.core import HOUR, has_children, open_row, program

PATIENCE = 20.0
ANSWER = "import socket; s = socket.socket(fileno=0); d, a = s.recvfrom(999); s.sendto(b'got ' + d, a)"


class Questions:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes, Callable[[bool | None], None]]] = []

    def ask(self, row: int, address: bytes, callback: Callable[[bool | None], None]) -> None:
        self.asked.append((row, address, callback))


class Kit:
    """A supervisor's parts, as far as wait services need them."""

    def __init__(self) -> None:
        self.board = Board.create(4, 16, 2)
        self.troubles: list[str] = []
        self.loop = Loop(self.troubles.append)
        self.keeper = Keeper(self.board, self.board.section_claim(os.getpid()))
        self.children = Children(self.board, self.keeper, lambda row: None, lambda pid: False, self.board.drain,
                                 self.loop.later)
        self.questions = Questions()
        self.spoilt: list[socket.socket] = []
        self.loop.on_signal(signal.SIGCHLD, self.children.reap)
        self.services = WaitServices(
            self.board, self.loop, self.keeper, self.children, self.questions,  # type: ignore[arg-type]
            self.spoilt.append,
        )
        self.sockets: list[socket.socket] = []

    def machine(
        self, *argv: str, kind: int = socket.SOCK_DGRAM, ranges: Ranges | None = None, **limits: int
    ) -> WaitSocket:
        sock = socket.socket(socket.AF_INET, kind)
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        self.sockets.append(sock)
        row = open_row(self.board, **limits)
        service = Service("x", "x", Place("x.conf", 1), socket_type="dgram", wait=True)
        planned = PlannedService(
            service, Mode.WAIT, (), SocketOptions(), Start(b"", (), ()), AccessTable(), (0, 0), 0, 0
        )
        installed = Installed(row, planned, program(row, *argv, ranges=ranges))
        self.services.install([*((m.installed, m.sock) for m in self.services), (installed, sock)])
        return next(machine for machine in self.services if machine.sock is sock)

    def until(self, condition: Callable[[], object]) -> None:
        """Let the loop run until something holds; it is looked at after each callback."""
        guard = self.loop.later(PATIENCE, self.loop.stop)

        def look() -> None:
            if condition():
                self.loop.stop()
            else:
                self.loop.later(0.001, look)

        look()
        if not condition():
            self.loop.run()
        guard.cancel()
        assert condition(), self.troubles

    def close(self) -> None:
        self.services.install([])
        for slot in self.board.slots_in_use():
            os.kill(slot.pid, signal.SIGKILL)
        self.until(lambda: not self.board.slots_in_use())
        assert self.troubles == []
        assert not has_children()
        assert self.board.live == 0
        for sock in self.sockets:
            sock.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.board.fd)


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(PATIENCE)
        yield made


@pytest.mark.parametrize(("one", "other"), [*product(State, State)])
def test_every_pair_of_states(kit: Kit, one: State, other: State) -> None:
    """What is in the table is done, whatever else is our fault and says so."""
    machine = kit.machine("/bin/true")
    machine.state = one
    if (one, other) in TRANSITIONS:
        machine._go(other)
        assert machine.state is other
    else:
        with pytest.raises(AssertionError, match=f"{one.value} -> {other.value}"):
            machine._go(other)
        assert machine.state is one
    machine.state = State.IDLE


def test_the_table() -> None:
    assert all((state, State.GONE) in TRANSITIONS for state in State)
    assert not any((State.GONE, state) in TRANSITIONS for state in State if state is not State.GONE)
    reached = {State.IDLE}
    for _ in State:
        reached |= {after for before, after in TRANSITIONS if before in reached}
    assert reached == {*State}


def test_a_datagram_starts_a_server_that_answers(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine(sys.executable, "-c", ANSWER)
    for text in (b"one", b"two"):
        client.sendto(text, machine.sock.getsockname())
        kit.until(lambda: machine.state is State.RUNNING)
        assert machine.pid
        assert kit.services.pids() == {machine.installed.row: machine.pid}
        kit.until(lambda: machine.state is State.IDLE)
        assert client.recv(100) == b"got " + text
    assert kit.services.pids() == {}
    assert kit.board.counters(machine.installed.row).activations == 2


def test_the_server_has_the_socket_to_itself(kit: Kit, client: socket.socket) -> None:
    """While it runs, another datagram starts nobody; both are its own to read, or the next one's."""
    machine = kit.machine("/bin/sleep", "1000")
    client.sendto(b"one", machine.sock.getsockname())
    kit.until(lambda: machine.state is State.RUNNING)
    client.sendto(b"two", machine.sock.getsockname())
    kit.loop.later(0.05, kit.loop.stop)
    kit.loop.run()
    assert kit.board.live == 1
    assert machine.sock.recv(10) == b"one"


def test_a_server_that_does_not_read_is_not_started_all_the_time(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine("/bin/true")
    client.sendto(b"unread", machine.sock.getsockname())
    kit.until(lambda: machine.state is State.COOLDOWN)
    first = machine._back_off.pause
    kit.until(lambda: machine.state is not State.COOLDOWN)
    kit.until(lambda: machine.state is State.COOLDOWN)
    assert machine._back_off.pause == 2 * first
    assert kit.board.counters(machine.installed.row).activations == 2
    assert machine.sock.recv(10) == b"unread"  # never thrown away


def test_a_start_that_fails_pauses(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine("/no/such/program")
    client.sendto(b"x", machine.sock.getsockname())
    kit.until(lambda: machine.state is State.COOLDOWN)
    assert sum(kit.board.counters(machine.installed.row).spawn_failures) == 1
    assert machine.sock.recv(10) == b"x"


def test_above_the_rate_it_waits(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine(sys.executable, "-c", ANSWER, rate_increment=HOUR, rate_tolerance=0)
    client.sendto(b"one", machine.sock.getsockname())
    assert kit.board.rate_wait(machine.installed.row) == 0
    kit.until(lambda: machine.state is State.RUNNING)
    kit.until(lambda: machine.state is State.IDLE)
    client.sendto(b"two", machine.sock.getsockname())
    kit.until(lambda: machine.state is State.COOLDOWN)
    assert machine._timer is not None
    assert machine.sock.recv(10) == b"two"
    assert client.recv(10) == b"got one"


def test_what_an_address_rule_refuses_is_taken_off_the_queue(kit: Kit, client: socket.socket) -> None:
    nobody = Ranges([(0, 2**32 - 1, Verdict.ADDRESS)], [])
    machine = kit.machine("/bin/true", ranges=nobody)
    row = machine.installed.row
    for count in (1, 2):
        client.sendto(b"x", machine.sock.getsockname())
        kit.until(lambda count=count: kit.board.counters(row).rejected[Verdict.ADDRESS] == count)
        assert machine.state is State.IDLE
    assert kit.board.counters(row).activations == 0


def test_a_stream_service_accepts_itself(kit: Kit) -> None:
    accept = "import socket; c, _ = socket.socket(fileno=0).accept(); c.sendall(b'hello'); c.close()"
    machine = kit.machine(sys.executable, "-c", accept, kind=socket.SOCK_STREAM)
    with socket.create_connection(machine.sock.getsockname(), PATIENCE) as one:
        kit.until(lambda: machine.state is State.RUNNING)
        kit.until(lambda: machine.state is State.IDLE)
        assert one.recv(10) == b"hello"


def test_clients_above_a_limit_are_closed(kit: Kit) -> None:
    machine = kit.machine("/bin/true", kind=socket.SOCK_STREAM, instances=0)
    with socket.create_connection(machine.sock.getsockname(), PATIENCE) as one:
        row = machine.installed.row
        kit.until(lambda: kit.board.counters(row).rejected[Verdict.INSTANCES] == 1)
        assert one.recv(10) == b""


class TestNames:
    """The sender's name decides: the doorman is asked."""

    @pytest.fixture
    def machine(self, kit: Kit, client: socket.socket) -> WaitSocket:
        asking = Ranges([(0, 2**32 - 1, Verdict.ASK)], [])
        made = kit.machine("/bin/sleep", "1000", ranges=asking)
        client.sendto(b"x", made.sock.getsockname())
        kit.until(lambda: made.state is State.ASKING)
        return made

    def test_admitted(self, kit: Kit, machine: WaitSocket) -> None:
        ((row, address, answer),) = kit.questions.asked
        assert (row, address) == (machine.installed.row, bytes([127, 0, 0, 1]))
        answer(True)
        assert machine.state is State.RUNNING

    @pytest.mark.parametrize(("said", "verdict"), [(False, Verdict.NAME), (None, Verdict.DOORMAN)])
    def test_refused(self, kit: Kit, machine: WaitSocket, said: bool | None, verdict: Verdict) -> None:
        kit.questions.asked[0][2](said)
        assert machine.state is State.IDLE
        assert kit.board.counters(machine.installed.row).rejected[verdict] == 1
        with pytest.raises(BlockingIOError):
            machine.sock.recv(10, socket.MSG_DONTWAIT)

    def test_answered_too_late(self, kit: Kit, machine: WaitSocket) -> None:
        kit.services.install([])
        kit.questions.asked[0][2](True)
        assert machine.state is State.GONE
        assert kit.board.live == 0


class TestReload:
    def test_a_server_goes_on_and_its_machine_too(self, kit: Kit, client: socket.socket) -> None:
        machine = kit.machine("/bin/sleep", "1000")
        client.sendto(b"x", machine.sock.getsockname())
        kit.until(lambda: machine.state is State.RUNNING)
        fresh: Any = Installed(machine.installed.row, machine.installed.planned, program(machine.installed.row))
        kit.services.install([(fresh, machine.sock)])
        assert [*kit.services] == [machine]
        assert machine.installed is fresh
        assert machine.state is State.RUNNING

    @pytest.mark.parametrize("state", [State.IDLE, State.RUNNING, State.COOLDOWN])
    def test_withdrawn(self, kit: Kit, client: socket.socket, state: State) -> None:
        path = {State.IDLE: "/bin/true", State.RUNNING: "/bin/sleep", State.COOLDOWN: "/no/such/program"}[state]
        machine = kit.machine(path, "1000")
        if state is not State.IDLE:
            client.sendto(b"x", machine.sock.getsockname())
            kit.until(lambda: machine.state is state)
        kit.services.install([])
        assert machine.state is State.GONE
        for slot in kit.board.slots_in_use():
            os.kill(slot.pid, signal.SIGKILL)
        kit.until(lambda: kit.board.live == 0)
        assert machine.state is State.GONE
        assert [*kit.services] == []


class TestAccept:
    """A client is refused by accepting and closing it, on a socket that others have too."""

    @pytest.fixture
    def listener(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as made:
            yield made

    def test_somebody_else_was_first(self, listener: socket.socket) -> None:
        with pytest.raises(BlockingIOError):
            wait._accept_now(listener)

    def test_somebody_else_makes_it_blocking(self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket.socket, "setblocking", lambda *_: None)
        before = signal.getsignal(signal.SIGALRM)
        with pytest.raises(TimeoutError):
            wait._accept_now(listener)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getsignal(signal.SIGALRM) is before

    def test_a_client(self, listener: socket.socket) -> None:
        with socket.create_connection(listener.getsockname()) as client:
            accepted, address = wait._accept_now(listener)
            accepted.close()
            assert address == client.getsockname()
