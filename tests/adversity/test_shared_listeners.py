"""Servers that share a listener and do not behave.

What must hold: never more of them than there may be, no busy loop, no client or datagram lost that none of them took.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import ECHO, HELLO, Keep, at_rest, come, consistent, starts_again_in_vain, unbalanced

from support.clients import ask, connect, datagrams, free_port, read_line
from support.daemon import Launch, records
from support.gates import PASSES, Gate
from support.proc import wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

ANSWERS = """import os, socket, sys
s = socket.socket(fileno=0)
leave = os.open(sys.argv[1], os.O_RDONLY)
while True:
    d, a = s.recvfrom(100)
    os.read(leave, 1)
    s.sendto(d, a)
"""
"""Busy with each datagram until the test gives it leave."""


@pytest.fixture
def leave(folder: Path) -> Iterator[int]:
    """A fifo, `leave` in the folder: a byte for each answer that a server may give."""
    os.mkfifo(folder / "leave")
    descriptor = os.open(folder / "leave", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def script(folder: Path, text: str) -> Path:
    path = folder / "server"
    path.write_text(f"#!{sys.executable} -IS\n{text}")
    path.chmod(0o755)
    return path


def shared(port: int, server: Path | str, number: int, args: str = "", dgram: bool = False) -> str:
    kind = {"socket_type": "dgram", "protocol": "udp"} if dgram else {}
    return entry("x", port, server, args, wait="yes", instances=number, **kind)


@pytest.mark.parametrize("dgram", [True, False], ids=["dgram", "stream"])
def test_they_ignore_the_socket(launch: Launch, keep: Keep[Any], dgram: bool) -> None:
    """All are started, then the daemon is at rest; killed ones are replaced with pauses; others are served."""
    port, other = free_port(), free_port()
    daemon = launch(defaults() + shared(port, "/bin/sleep", 3, "1000", dgram) + entry("hello", other, ECHO, "hello"))
    come(port, dgram, keep)
    wait_for(lambda: len(daemon.servers()) == 3, "as many as there may be")
    at_rest([daemon.pid], 5)
    assert len(daemon.servers()) == 3
    for _ in range(5):
        for pid in daemon.servers():
            with suppress(ProcessLookupError):  # one of those killed before
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: daemon.servers(), "another")
        assert len(daemon.servers()) <= 3
        assert ask(other) == HELLO
    consistent(daemon)


@pytest.mark.parametrize("dgram", [True, False], ids=["dgram", "stream"])
def test_they_exit_at_once(launch: Launch, keep: Keep[Any], folder: Path, dgram: bool) -> None:
    """As with one server: started again with growing pauses."""
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + shared(port, "/bin/true", 5, "", dgram))
    starts_again_in_vain(daemon, port, log, dgram, keep)
    consistent(daemon)


def test_killed_at_random(launch: Launch, folder: Path, leave: int) -> None:
    """Datagrams flow and servers are killed: never too many, all accounted for, and lost is only what one had taken."""
    port, log = free_port(), folder / "records"
    server = shared(port, script(folder, ANSWERS), 4, str(folder / "leave"), dgram=True)
    daemon = launch(defaults(log) + server, metrics=True)
    chance = random.Random(7)
    killed = sent = 0
    seen: set[bytes] = set()
    with datagrams() as s:
        for i in range(200):
            s.sendto(b"%d" % i, ("127.0.0.1", port))
            sent += 1
            if sent == 10:
                wait_for(lambda: len(daemon.servers()) == 4, "as many as there may be")
            if sent > 10:
                os.write(leave, b"x")
            servers = daemon.servers()
            assert len(servers) <= 4
            if servers and chance.random() < 0.1:
                os.kill(chance.choice(servers), signal.SIGKILL)
                killed += 1
        os.write(leave, b"x" * 1000)  # those who were killed may have had one in vain
        s.settimeout(20)
        while len(seen) < sent - killed:
            seen.add(s.recv(100))
        s.settimeout(20)
        s.sendto(b"last", ("127.0.0.1", port))
        while s.recv(100) != b"last":
            pass
    assert daemon.metric("fastinetd_connections_rejected_total", service="x") == 0
    for pid in daemon.servers():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not daemon.servers(), "all are gone")
    wait_for(lambda: not unbalanced(log, "x"), "each START has its EXIT")
    consistent(daemon)


def test_same_datagram_again(launch: Launch, folder: Path, leave: int) -> None:
    """Equal ones from one client, each with a server that ends: they run beside each other, and none is held up.

    A server whose datagram another one took ends when it is idle, as one that shares a socket should.
    """
    port, log = free_port(), folder / "records"
    text = """import os, select, socket, sys
s = socket.socket(fileno=0)
if select.select([s], [], [], 2)[0]:
    d, a = s.recvfrom(9, socket.MSG_DONTWAIT)
    os.read(os.open(sys.argv[1], os.O_RDONLY), 1)
    s.sendto(d, a)
"""
    daemon = launch(defaults(log) + shared(port, script(folder, text), 4, str(folder / "leave"), dgram=True))
    with datagrams() as s:
        for _ in range(40):
            s.sendto(b"same", ("127.0.0.1", port))
        wait_for(lambda: len(daemon.servers()) == 4, "as many as there may be")
        for _ in range(40):
            os.write(leave, b"x")
            assert s.recv(9) == b"same"
            assert len(daemon.servers()) <= 4
    wait_for(lambda: not daemon.servers(), "all have ended")
    assert len(records(log, "START", "x")) <= 60  # and few in vain


def test_one_shuts_the_listener_down(launch: Launch, folder: Path) -> None:
    """It is opened anew while the others run, and served by as many again."""
    port = free_port()
    text = """import os, socket
s = socket.socket(fileno=0)
while True:
    c, _ = s.accept()
    if c.recv(9) == b"shut":
        s.shutdown(socket.SHUT_RDWR)
    c.sendall(b"x\\n")
    c.close()
"""
    launch(defaults() + shared(port, script(folder, text), 2))
    assert ask(port, b"a") == b"x\n"
    assert ask(port, b"shut") == b"x\n"

    def served() -> bool:
        try:
            return ask(port, b"a") == b"x\n"
        except OSError:
            return False

    wait_for(served, "served again")


def test_servers_of_before(launch: Launch, keep: Keep[Any], folder: Path) -> None:
    """A nowait service becomes a shared one: its servers go on and count, and what waits is served once they end."""
    port = free_port()
    text = "import socket\nc, _ = socket.socket(fileno=0).accept()\nc.sendall(b'wait\\n')\nc.recv(1)"
    wait = defaults() + shared(port, script(folder, text), 2)
    daemon = launch(wait)  # as at the end: what is open now may be open then
    daemon.reload(defaults() + entry("x", port, "/bin/cat"))
    before = [keep(connect(port)) for _ in range(2)]
    wait_for(lambda: len(daemon.servers()) == 2, "two of nowait")
    daemon.reload(wait)
    late = keep(connect(port))
    at_rest([daemon.pid], 0, 0.3)
    assert len(daemon.servers()) == 2
    before[0].close()
    assert read_line(late) == b"wait\n"
    before[1].sendall(b"x\n")
    assert read_line(before[1]) == b"x\n"
    for victim in [each for each in daemon.roles().items() if each[0].startswith("acceptor")]:
        os.kill(victim[1], signal.SIGKILL)
    another = keep(connect(port))
    before[1].close()
    assert read_line(another) == b"wait\n"
    wait_for(lambda: len(daemon.roles()) >= len(daemon.baseline), "acceptors again")
    consistent(daemon)


def test_two_sockets_of_one_service(launch: Launch, folder: Path) -> None:
    """The number is the service's: what waits on the one socket is served when the other's servers have ended."""
    port, over = free_port(), folder / "over"
    text = f"""import socket
s = socket.socket(fileno=0)
d, a = s.recvfrom(9)
{PASSES}
s.sendto(d, a)
"""
    both = shared(port, script(folder, text), 2, str(over), dgram=True).replace("127.0.0.1", "127.0.0.1 127.0.0.2")
    daemon = launch(defaults() + both, metrics=True)
    with Gate(over) as gate, datagrams() as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for _ in range(2):
            one.sendto(b"1", ("127.0.0.1", port))
        wait_for(lambda: len(daemon.servers()) == 2, "two")
        for number in (b"2", b"3", b"4"):
            other.sendto(number, ("127.0.0.2", port))
        at_rest([daemon.pid], 1, 0.7)
        assert len(daemon.servers()) == 2
        gate.open()
        other.settimeout(20)
        assert {other.recv(9) for _ in range(3)} == {b"2", b"3", b"4"}
    assert daemon.metric("fastinetd_connections_rejected_total", service="x") == 0
