"""The machine of a wait service's socket with several servers: when it starts one more, and when it does not."""

from __future__ import annotations

import os
import select
import signal
import socket
from functools import partial
from typing import Any

import pytest

from fastinetd.core.layout import Verdict
from fastinetd.core.program import Ranges
from fastinetd.services import queue_demand
from fastinetd.services.queue_demand import LOOKS_PER_PAUSE, QueueDemand
from fastinetd.services.queue_head import Head
from fastinetd.services.wait import WaitSocket
from fastinetd.services.wait_states import WATCHING, State
from support.core import HOUR
from support.proc import PATIENCE
from support.sharing import (
    ACCEPTS_ONE,
    IGNORES,
    TAKES_ALL,
    TAKES_ONE,
    TAKES_ONE_AND_SAYS_SO,
    Send,
    activations,
    for_a_while,
    python,
)
from support.waiting import Kit


def counting(machine: WaitSocket) -> list[int]:
    """Grows by one with each look at the queue."""
    looks: list[int] = []
    look = machine._head

    def counted() -> Head | None:
        looks.append(1)
        return look()

    machine._head = counted  # type: ignore[method-assign]
    return looks


def test_what_servers_take_waits_for_the_rate_no_more(kit: Kit, send: Send) -> None:
    """A second server may not be started yet; the first takes what waits, late, and goes on: then nobody waits."""
    machine = kit.machine(*python(TAKES_ALL), share=2, rate_count=1, rate_period=HOUR)
    row = machine.installed.row
    send(machine, b"one")
    kit.until(lambda: machine.servers)
    (pid,) = machine.servers
    os.kill(pid, signal.SIGSTOP)
    kit.until(lambda: machine.state is State.COOLDOWN)
    assert kit.board.row_awaits_rate(row)
    os.kill(pid, signal.SIGCONT)
    kit.until(lambda: machine._head() is None)
    assert machine._timer is not None and machine._timer.callback is not None
    over, machine._timer.callback = machine._timer.callback, None
    over()
    assert machine.state is State.SHARED
    assert not kit.board.row_awaits_rate(row)


def test_servers_that_ignore_the_socket(kit: Kit, send: Send) -> None:
    """As many as there may be, after growing pauses, and then nothing: no look at the queue, nothing thrown away."""
    machine = kit.machine(*IGNORES, share=3)
    send(machine, b"unread")
    pauses = []
    for count in (1, 2):
        kit.until(partial(lambda wanted: len(machine.servers) == wanted, count))
        assert machine.state is State.GRACE
        pauses.append(machine._demand.pause)
    assert pauses == [0.1, 0.2]
    kit.until(lambda: machine.state is State.FULL)
    looks = counting(machine)
    for_a_while(kit, 0.5)
    assert (len(machine.servers), kit.board.live, activations(kit, machine), looks) == (3, 3, 3, [])
    assert machine.sock.recv(10) == b"unread"


def test_servers_of_a_stream_are_not_long_in_coming(kit: Kit) -> None:
    """Its queue may be as long as before although servers take clients: the pauses stay short."""
    machine = kit.machine(*IGNORES, kind=socket.SOCK_STREAM, share=5)
    pauses = []
    with socket.create_connection(machine.sock.getsockname()):
        for count in range(1, 5):
            kit.until(partial(lambda wanted: len(machine.servers) == wanted, count))
            pauses.append(machine._demand.pause)
    assert pauses == [0.1, 0.2, 0.2, 0.2]


def test_looks_are_few(kit: Kit, send: Send) -> None:
    """However long something waits: as many as the pauses have, not more."""
    machine = kit.machine(*IGNORES, share=9)
    looks = counting(machine)
    send(machine, b"unread")
    kit.until(lambda: len(machine.servers) == 4)
    assert len(looks) <= 4 * (LOOKS_PER_PAUSE + 3)


def test_what_is_taken_calls_for_nobody(
    kit: Kit, client: socket.socket, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause in which it is to be taken is as long as a slow machine needs, and looks are as frequent as ever."""
    machine = kit.machine(*python(TAKES_ALL), share=3)
    be_patient(machine, monkeypatch)
    send(machine, b"0")
    assert received(kit, client) == b"0"
    kit.until(lambda: machine.state in (State.SHARED, State.FULL))
    for text in (b"1", b"2", b"3"):
        send(machine, text, text + b"!")
        assert [received(kit, client), received(kit, client)] == [text, text + b"!"]
        kit.until(lambda: machine.state in (State.SHARED, State.FULL))
    assert activations(kit, machine) == 1


def be_patient(machine: WaitSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has PATIENCE to take what is there before there is another one; looks are as frequent as ever."""
    monkeypatch.setattr(queue_demand, "FIRST_PAUSE", PATIENCE)
    machine._demand = QueueDemand(PATIENCE)
    monkeypatch.setattr(queue_demand, "LOOKS_PER_PAUSE", 40 * PATIENCE)


def received(kit: Kit, client: socket.socket) -> bytes:
    """The next answer, while the machine's loop turns."""
    kit.until(lambda: select.select([client], [], [], 0)[0])
    return client.recv(99)


def test_what_is_left_is_anothers(kit: Kit, send: Send) -> None:
    """Each takes one datagram and goes on: the next calls for the next server, up to as many as there may be."""
    machine = kit.machine(*python(TAKES_ONE), share=2)
    send(machine, b"1")
    kit.until(lambda: machine.state is State.SHARED or len(machine.servers) == 2)
    send(machine, b"2", b"3")
    kit.until(lambda: machine.state is State.FULL)
    kit.until(lambda: machine.sock.recv(9, socket.MSG_PEEK) == b"3")
    for_a_while(kit, 0.3)
    assert activations(kit, machine) == 2
    victim = next(iter(machine.servers))
    os.kill(victim, signal.SIGKILL)
    kit.until(lambda: victim not in machine.servers and len(machine.servers) == 2)
    kit.until(lambda: machine._head() is None)
    assert activations(kit, machine) == 3


def test_short_lived_servers_run_beside_each_other(kit: Kit, client: socket.socket, send: Send) -> None:
    """They end before a pause is over, yet a queue that stands calls for more, up to as many as there may be."""
    machine = kit.machine(*python(TAKES_ONE_AND_SAYS_SO), share=4)
    send(machine, *(b"%d" % i for i in range(40)))
    most = 0
    look = machine._look_at_queue

    def one_ends() -> None:
        """One that has taken its datagram, if there is one."""
        if select.select([client], [], [], 0)[0]:
            os.kill(int(client.recv(9)), signal.SIGKILL)

    def looked() -> None:
        look()
        one_ends()

    machine._look_at_queue = looked  # type: ignore[method-assign]

    def done() -> bool:
        nonlocal most
        most = max(most, len(machine.servers))
        if machine.state is State.FULL:  # nobody looks then
            one_ends()
        return machine.state in WATCHING and machine._head() is None  # one too many may wait for another datagram

    kit.until(done)
    assert 2 <= most <= 4
    assert 40 <= activations(kit, machine) <= 60


def test_a_stream(kit: Kit) -> None:
    machine = kit.machine(*python(ACCEPTS_ONE), kind=socket.SOCK_STREAM, share=2)
    clients = [socket.create_connection(machine.sock.getsockname(), PATIENCE) for _ in range(3)]
    for one in clients[:2]:
        one.setblocking(False)
    kit.until(lambda: machine.state is State.FULL)
    kit.until(lambda: not kit_readable(machine, 2))
    assert activations(kit, machine) == 2
    victim = next(iter(machine.servers))
    os.kill(victim, signal.SIGKILL)
    kit.until(lambda: activations(kit, machine) == 3)
    kit.until(lambda: machine._head() is None)
    for one in clients:
        one.close()


def kit_readable(machine: WaitSocket, most: int) -> bool:
    """Whether so many clients or more wait in a stream's queue."""
    first: Any = machine._head()
    return first is not None and first.what[0] >= most


def test_a_shut_down_stream_is_told(kit: Kit) -> None:
    """By one of several servers; the others run."""
    machine = kit.machine(*IGNORES, kind=socket.SOCK_STREAM, share=9)
    with socket.create_connection(machine.sock.getsockname(), PATIENCE):
        kit.until(lambda: len(machine.servers) == 2)
        machine.sock.shutdown(socket.SHUT_RDWR)
        kit.until(lambda: kit.spoilt)
    assert kit.spoilt[0] is machine.sock
    kit.services.serve([])


def test_one_that_does_not_read_pauses_beside_others(kit: Kit, send: Send) -> None:
    machine = kit.machine(*IGNORES, share=3)
    send(machine, b"unread")
    kit.until(lambda: len(machine.servers) == 2)
    first, second = machine.servers
    os.kill(second, signal.SIGKILL)
    kit.until(lambda: machine.state is State.COOLDOWN)
    os.kill(first, signal.SIGKILL)  # another one that has not read: the pause goes on
    kit.until(lambda: not machine.servers)
    assert machine.state is State.COOLDOWN
    kit.until(lambda: machine.servers)
    assert machine.sock.recv(10) == b"unread"


def test_the_pause_ends_with_a_server_that_has_read(kit: Kit, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = kit.machine(*python(TAKES_ONE), share=2)
    be_patient(machine, monkeypatch)
    send(machine, b"1")
    kit.until(lambda: machine.servers and machine._head() is None)
    kit.until(lambda: machine.state is State.SHARED)
    send(machine, b"2")
    kit.until(lambda: machine.state is State.GRACE)
    machine._cool_down(HOUR)
    os.kill(next(iter(machine.servers)), signal.SIGKILL)
    kit.until(lambda: activations(kit, machine) >= 2)


def test_what_is_set_on_the_socket_stays_as_long_as_anybody_has_it(kit: Kit, send: Send) -> None:
    """It may be another server's that still runs; the last one leaves the socket as it was."""
    machine = kit.machine("/bin/sleep", "1000", share=2)
    send(machine, b"x")
    kit.until(lambda: len(machine.servers) == 2)
    assert machine.sock.recv(10) == b"x"
    machine.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 3)
    for left, priority in ((1, 3), (0, 0)):
        os.kill(next(iter(machine.servers)), signal.SIGKILL)
        kit.until(lambda left=left: len(machine.servers) == left)  # type: ignore[misc]
        assert machine.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == priority


def test_what_a_limit_refuses_is_left_to_the_others(kit: Kit, send: Send) -> None:
    """While servers run nothing is thrown away and nobody counted as refused; the look at it grows rare."""
    machine = kit.machine(*IGNORES, share=3)
    kit.board.set_process_limit(1)
    send(machine, b"unread")
    kit.until(lambda: machine._demand.pause > 0.2)
    assert machine.state is State.GRACE
    assert not any(kit.board.counters(machine.installed.row).rejected)
    assert machine.sock.recv(10) == b"unread"
    kit.until(lambda: machine.state is State.SHARED)
    assert machine._demand.pause == 0.1


def test_above_the_rate_it_waits(kit: Kit, send: Send) -> None:
    machine = kit.machine(*IGNORES, share=3, rate_count=1, rate_period=HOUR)
    send(machine, b"unread")
    kit.until(lambda: machine.state is State.COOLDOWN)
    assert len(machine.servers) == 1
    assert machine.sock.recv(10) == b"unread"


def test_the_servers_run_on_another_socket_of_the_service(kit: Kit, send: Send) -> None:
    machine = kit.machine(*IGNORES, share=2, instances=0)
    send(machine, b"unread")
    kit.until(lambda: machine.state is State.COOLDOWN)
    assert machine.sock.recv(10) == b"unread"
    assert kit.board.counters(machine.installed.row).rejected[Verdict.INSTANCES] == 0


class TestNames:
    """The doorman is asked about the sender of what a further server would be started for."""

    @pytest.fixture
    def machine(self, kit: Kit, send: Send) -> WaitSocket:
        asking = Ranges([(0, 2**32 - 1, Verdict.ASK)], [])
        made = kit.machine(*IGNORES, ranges=asking, share=3)
        send(made, b"1", b"2")
        kit.until(lambda: made.state is State.ASKING)
        kit.questions.asked.pop()[2](True)
        kit.until(lambda: made.state is State.ASKING)
        assert len(made.servers) == 1
        return made

    def test_admitted(self, kit: Kit, machine: WaitSocket) -> None:
        kit.questions.asked.pop()[2](True)
        assert len(machine.servers) == 2

    @pytest.mark.parametrize("said", [False, None])
    def test_refused_but_not_thrown_away(self, kit: Kit, machine: WaitSocket, said: bool | None) -> None:
        kit.questions.asked.pop()[2](said)
        assert machine.state is State.GRACE
        assert machine.sock.recv(9) == b"1"

    @pytest.mark.parametrize("said", [False, True])
    def test_taken_meanwhile(self, kit: Kit, machine: WaitSocket, said: bool) -> None:
        """The answer is about nobody any more: what is first now is neither served nor refused by it."""
        assert machine.sock.recv(9) == b"1"
        kit.questions.asked.pop()[2](said)
        assert machine.state is State.SHARED
        kit.until(lambda: machine.state is State.ASKING)
        assert (len(machine.servers), machine.sock.recv(9)) == (1, b"2")

    def test_the_last_server_ends_meanwhile(self, kit: Kit, machine: WaitSocket) -> None:
        (pid,) = machine.servers
        os.kill(pid, signal.SIGKILL)
        kit.until(lambda: not machine.servers)
        assert machine.state is State.ASKING
        kit.questions.asked.pop()[2](False)  # nobody else reads: as if it were the first
        assert (machine.state, machine.sock.recv(9)) == (State.IDLE, b"2")
