"""The machine of a wait service's socket: every pair of states, and its life with real servers."""

from __future__ import annotations

import select
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from fastinetd.config.model import OverRate
from fastinetd.core.layout import RecordKind, Verdict
from fastinetd.core.program import Ranges
from fastinetd.services import wait
from fastinetd.services.queue_head import accept_now
from fastinetd.services.wait import WaitSocket
from fastinetd.services.wait_states import TRANSITIONS, State
from support.core import HOUR, set_limits
from support.proc import PATIENCE
from support.waiting import ANSWER, Kit


@pytest.mark.parametrize(("one", "other"), [*product(State, State)])
def test_every_pair_of_states(kit: Kit, one: State, other: State) -> None:
    """What is in the table is done, whatever else is our fault and says so."""
    machine = kit.machine("/bin/true")
    machine.state = one
    if (one, other) in TRANSITIONS:
        machine._enter(other)
        assert machine.state is other
    else:
        with pytest.raises(AssertionError, match=f"{one.value} -> {other.value}"):
            machine._enter(other)
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
        kit.until(lambda: machine.state is State.FULL)
        assert len(machine.servers) == 1
        assert kit.services.rows_left_to_servers() == {machine.installed.row}
        kit.until(lambda: machine.state is State.IDLE)
        assert client.recv(100) == b"got " + text
    assert kit.services.rows_left_to_servers() == set()
    assert kit.board.counters(machine.installed.row).activations == 2


def test_the_server_has_the_socket_to_itself(kit: Kit, client: socket.socket) -> None:
    """While it runs, another datagram starts nobody; both are its own to read, or the next one's."""
    machine = kit.machine("/bin/sleep", "1000")
    client.sendto(b"one", machine.sock.getsockname())
    kit.until(lambda: machine.state is State.FULL)
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


def test_a_server_that_never_reads_is_told_once(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine("/bin/true")
    machine._back_off.pause = wait.WARN_FROM_PAUSE / 2  # of the failures before
    client.sendto(b"unread", machine.sock.getsockname())
    for _ in range(2):
        kit.until(lambda: machine.state is State.COOLDOWN)
        kit.until(lambda: machine.state is not State.COOLDOWN)
    (text,) = kit.said
    assert text.startswith("service x: ")


@pytest.mark.parametrize("argv", ["/bin/true", "/no/such/program"])
def test_a_stream_server_that_takes_nobody(kit: Kit, argv: str) -> None:
    """Its pauses grow as those of datagrams do, and it is told once."""
    machine = kit.machine(argv, kind=socket.SOCK_STREAM)
    with socket.create_connection(machine.sock.getsockname()):
        pauses = []
        for _ in range(4):
            kit.until(lambda: machine.state is State.COOLDOWN)
            pauses.append(machine._back_off.pause)
            kit.until(lambda: machine.state is not State.COOLDOWN)
        assert pauses[-1] >= 0.4
        machine._back_off.pause = wait.WARN_FROM_PAUSE / 2
        for _ in range(2):
            kit.until(lambda: machine.state is State.COOLDOWN)
            assert machine._timer is not None and machine._timer.callback is not None
            machine._timer.callback()  # the pause is over
    assert len(kit.said) == (argv == "/bin/true")  # why a program cannot be started is told by its record


def test_who_takes_clients_from_a_queue_as_long_as_before_is_not_held_up(kit: Kit) -> None:
    """One client goes and another comes: the length says nothing."""
    code = ("import socket; s = socket.socket(fileno=0); c, _ = s.accept(); a = s.getsockname(); "
            "socket.create_connection(a).close()")
    machine = kit.machine(sys.executable, "-c", code, kind=socket.SOCK_STREAM)
    with socket.create_connection(machine.sock.getsockname()):
        row = machine.installed.row
        kit.until(lambda: kit.board.counters(row).activations >= 6)
        assert machine._back_off.pause == 0
        kit.services.serve([])
        kit.until(lambda: not kit.board.slots_in_use())
        assert kit.said == []


def test_what_a_server_leaves_on_the_socket(kit: Kit, client: socket.socket) -> None:
    """A filter that lets nothing in, and an offset for peeking: the next client is served all the same."""
    code = ("import ctypes, os, socket, struct; s = socket.socket(fileno=0); d, a = s.recvfrom(99); "
            "code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0)); "
            "s.setsockopt(1, 26, struct.pack('HP', 1, ctypes.addressof(code))); s.setsockopt(1, 42, 500); "
            "s.setsockopt(1, 8, 1); s.sendto(d, a)")
    machine = kit.machine(sys.executable, "-c", code)
    for _ in range(2):
        client.sendto(b"x", machine.sock.getsockname())
        kit.until(lambda: machine.state is State.FULL)
        kit.until(lambda: machine.state is State.IDLE)
        assert client.recv(10) == b"x"
    assert kit.spoilt == []


def test_a_locked_filter_calls_for_another_socket(kit: Kit, client: socket.socket) -> None:
    code = "import socket; s = socket.socket(fileno=0); s.recv(99); s.setsockopt(1, 44, 1)"
    machine = kit.machine(sys.executable, "-c", code)
    client.sendto(b"x", machine.sock.getsockname())
    kit.until(lambda: kit.spoilt)
    assert kit.spoilt == [machine.sock]


def test_a_start_that_fails_pauses(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine("/no/such/program")
    client.sendto(b"x", machine.sock.getsockname())
    kit.until(lambda: machine.state is State.COOLDOWN)
    assert sum(kit.board.counters(machine.installed.row).spawn_failures) == 1
    assert machine.sock.recv(10) == b"x"


def test_above_the_rate_it_waits(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine(sys.executable, "-c", ANSWER, rate_count=1, rate_period=HOUR)
    client.sendto(b"one", machine.sock.getsockname())
    assert kit.board.rate_wait(machine.installed.row) == 0
    kit.until(lambda: machine.state is State.FULL)
    kit.until(lambda: machine.state is State.IDLE)
    client.sendto(b"two", machine.sock.getsockname())
    kit.until(lambda: machine.state is State.COOLDOWN)
    assert machine._timer is not None
    assert kit.board.row_awaits_rate(machine.installed.row)
    machine._timer.callback = None
    set_limits(kit.board, machine.installed.row, rate_count=2, rate_period=HOUR)
    machine._settle()
    kit.until(lambda: machine.state is State.FULL)
    kit.until(lambda: machine.state is State.IDLE)
    assert [client.recv(10) for _ in range(2)] == [b"got one", b"got two"]
    assert not kit.board.row_awaits_rate(machine.installed.row)
    counters = kit.board.counters(machine.installed.row)
    assert counters.rate_waits == 1
    assert counters.rate_wait_ns > 0
    assert [record.kind for record in kit.board.take_records() if record.kind == RecordKind.RATE_WAIT] == [8]


def test_above_the_rate_it_refuses_where_the_service_says_so(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine(sys.executable, "-c", ANSWER, rate_count=1, rate_period=HOUR, over_rate=1)
    planned = machine.installed.planned
    machine.installed.planned = replace(planned, service=replace(planned.service, over_rate=OverRate.REFUSE))
    for text in (b"one", b"two"):
        client.sendto(text, machine.sock.getsockname())
    counters = kit.board.counters
    kit.until(lambda: counters(machine.installed.row).rejected[Verdict.RATE] == 1)
    kit.until(lambda: machine.state is State.IDLE)
    assert client.recv(10) == b"got one"
    assert not kit.board.row_awaits_rate(machine.installed.row)
    with pytest.raises(BlockingIOError):
        machine.sock.recv(10, socket.MSG_DONTWAIT)


def test_failures_are_forgotten_once_a_server_has_read(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine(sys.executable, "-c", ANSWER)
    machine._back_off.pause = 16.0  # of the failures before
    client.sendto(b"one", machine.sock.getsockname())
    client.sendto(b"two", machine.sock.getsockname())
    for text in (b"got one", b"got two"):
        kit.until(lambda: machine.state is State.FULL)
        kit.until(lambda: machine.state is not State.FULL)
        assert client.recv(10) == text
    assert machine._back_off.pause == 0


def test_it_waits_no_longer_than_the_rate_asks_for(kit: Kit, client: socket.socket) -> None:
    machine = kit.machine(sys.executable, "-c", ANSWER, rate_count=1, rate_period=200_000_000)
    for text in (b"one", b"two"):
        client.sendto(text, machine.sock.getsockname())
        kit.until(lambda: machine.state is State.FULL)
        kit.until(lambda: machine.state is State.IDLE)
        assert client.recv(100) == b"got " + text


def test_each_server_has_a_blocking_socket(kit: Kit, client: socket.socket) -> None:
    """Though the one before it left it otherwise."""
    code = ("import os, socket; s = socket.socket(fileno=0); was = os.get_blocking(0); os.set_blocking(0, False); "
            "s.sendto(str(was).encode(), s.recvfrom(99)[1])")
    machine = kit.machine(sys.executable, "-c", code)
    for _ in range(2):
        client.sendto(b"x", machine.sock.getsockname())
        kit.until(lambda: machine.state is State.FULL)
        kit.until(lambda: machine.state is State.IDLE)
        assert client.recv(100) == b"True"


def test_what_an_address_rule_refuses_is_taken_off_the_queue(kit: Kit, client: socket.socket) -> None:
    nobody = Ranges([(0, 2**32 - 1, Verdict.ADDRESS)], [])
    machine = kit.machine("/bin/true", ranges=nobody)
    row = machine.installed.row
    for count in (1, 2):
        client.sendto(b"x", machine.sock.getsockname())
        kit.until(lambda count=count: kit.board.counters(row).rejected[Verdict.ADDRESS] == count)  # type: ignore[misc]
        assert machine.state is State.IDLE
    assert kit.board.counters(row).activations == 0


def test_a_stream_service_accepts_itself(kit: Kit) -> None:
    accept = "import socket; c, _ = socket.socket(fileno=0).accept(); c.sendall(b'hello'); c.close()"
    machine = kit.machine(sys.executable, "-c", accept, kind=socket.SOCK_STREAM)
    with socket.create_connection(machine.sock.getsockname(), PATIENCE) as one:
        kit.until(lambda: machine.state is State.FULL)
        kit.until(lambda: machine.state is State.IDLE)
        assert one.recv(10) == b"hello"


def test_clients_above_a_limit_are_closed(kit: Kit) -> None:
    machine = kit.machine("/bin/true", kind=socket.SOCK_STREAM, instances=0)
    with socket.create_connection(machine.sock.getsockname(), PATIENCE) as one:
        row = machine.installed.row
        kit.until(lambda: kit.board.counters(row).rejected[Verdict.INSTANCES] == 1)
        assert one.recv(10) == b""


class TestWokenInVain:
    """Something wakes the machine and is no client: it must not do so for ever."""

    def test_an_error_of_an_earlier_answer(self, kit: Kit, client: socket.socket) -> None:
        """A server asks for such errors (IP_RECVERR), and the client it has answered is gone."""
        machine = kit.machine("/bin/true")
        machine.sock.setsockopt(socket.IPPROTO_IP, 11, 1)
        gone = client.getsockname()
        client.close()
        machine.sock.sendto(b"answer", gone)
        poll = select.poll()
        poll.register(machine.sock, 0)
        assert poll.poll(PATIENCE * 1000)
        kit.until(lambda: not poll.poll(0))
        assert machine.state is State.IDLE
        assert kit.board.counters(machine.installed.row).activations == 0
        assert kit.troubles == []

    def test_again_and_again(self, kit: Kit, client: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        """As by datagrams that turn out to be damaged when they are read. Whoever comes after that is served."""
        machine = kit.machine(sys.executable, "-c", ANSWER)
        with monkeypatch.context() as patch:
            patch.setattr(wait, "first_sender", lambda _: None)
            client.sendto(b"one", machine.sock.getsockname())
            kit.until(lambda: machine.state is State.COOLDOWN)
        kit.until(lambda: machine.state is State.FULL)
        kit.until(lambda: machine.state is State.IDLE)
        assert client.recv(100) == b"got one"


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
        assert machine.state is State.FULL

    @pytest.mark.parametrize(("said", "verdict"), [(False, Verdict.NAME), (None, Verdict.DOORMAN)])
    def test_refused(self, kit: Kit, machine: WaitSocket, said: bool | None, verdict: Verdict) -> None:
        kit.questions.asked[0][2](said)
        assert machine.state is State.IDLE
        assert kit.board.counters(machine.installed.row).rejected[verdict] == 1
        with pytest.raises(BlockingIOError):
            machine.sock.recv(10, socket.MSG_DONTWAIT)

    def test_answered_too_late(self, kit: Kit, machine: WaitSocket) -> None:
        kit.services.serve([])
        kit.questions.asked[0][2](True)
        assert machine.state is State.GONE
        assert kit.board.live == 0


class TestAccept:
    """A client is refused by accepting and closing it, on a socket that others have too."""

    @pytest.fixture
    def listener(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as made:
            yield made

    def test_somebody_else_was_first(self, listener: socket.socket) -> None:
        with pytest.raises(BlockingIOError):
            accept_now(listener)

    def test_somebody_else_makes_it_blocking(self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket.socket, "setblocking", lambda *_: None)
        before = signal.getsignal(signal.SIGALRM)
        with pytest.raises(TimeoutError):
            accept_now(listener)
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getsignal(signal.SIGALRM) is before

    def test_a_client(self, listener: socket.socket) -> None:
        with socket.create_connection(listener.getsockname()) as client:
            accepted, address = accept_now(listener)
            accepted.close()
            assert address == client.getsockname()
