"""`wait = yes` with `instances = N`: N servers on one socket, tcp, udp and unix, beginning to end."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.clients import free_port
from support.daemon import Launch, records
from support.gates import PASSES, Gate
from support.proc import PATIENCE, process, wait_for
from support.texts import Service, defaults

STREAM = """import os, socket
s = socket.socket(fileno=0)
s.settimeout(2)
try:
    while True:
        c, _ = s.accept()
        c.settimeout(None)
        with c:
            c.sendall(b"%d\\n" % os.getpid())
            while c.recv(100):
                pass
except TimeoutError:
    pass
"""
"""Accepts one client at a time and stays with it; leaves when none came for two seconds."""

DGRAM = f"""import os, socket, sys
s = socket.socket(fileno=0)
s.settimeout(2)
try:
    d, a = s.recvfrom(100)
except TimeoutError:
    sys.exit()
s.sendto(b"%d" % os.getpid(), a)
{PASSES}
"""
"""Answers one datagram and stays until a gate is open; leaves when none came for two seconds."""


def silent(sock: socket.socket) -> bool:
    return not select.select([sock], [], [], 0)[0]


class Client:
    """A client of STREAM, with the pid of the server it came to."""

    def __init__(self, where: int | str) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(where if isinstance(where, str) else ("127.0.0.1", where))

    def server(self) -> int:
        return int(self.socket.makefile("rb").readline())

    def waits(self) -> bool:
        """Whether no server has taken it yet."""
        return silent(self.socket)


@pytest.fixture
def connect() -> Iterator[Callable[[int | str], Client]]:
    with ExitStack() as stack:

        def connected(where: int | str) -> Client:
            client = Client(where)
            stack.enter_context(client.socket)
            return client

        yield connected


@pytest.fixture
def script(folder: Path) -> Callable[[str], Path]:
    def made(text: str) -> Path:
        path = folder / "server"
        path.write_text(f"#!{sys.executable} -IS\n{text}")
        path.chmod(0o755)
        return path

    return made


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_stream(
    launch: Launch, folder: Path, script: Callable[[str], Path], connect: Callable[[int | str], Client], unix: bool
) -> None:
    """Three clients at a time, each with a server of its own; never a fourth server; all end, and others come."""
    where: int | str = str(folder / "socket") if unix else free_port()
    log = folder / "records"
    service = Service("x", where, script(STREAM), wait=True, more={"instances": 3})
    daemon = launch(defaults(log) + service.xinetd(), metrics=True)
    clients = [connect(where) for _ in range(5)]
    wait_for(lambda: sum(not client.waits() for client in clients) == 3, "three are served at a time")
    served = [client for client in clients if not client.waits()]
    pids = [client.server() for client in served]
    assert len({*pids}) == 3
    assert daemon.servers() == sorted(pids)
    assert daemon.metric("fastinetd_children", service="x") == 3
    os.kill(pids[0], signal.SIGKILL)  # its place is another's, and that one takes the fourth client
    fourth, fifth = (client for client in clients if client not in served)
    wait_for(lambda: not (fourth.waits() and fifth.waits()), "the fourth is served")
    wait_for(lambda: len(daemon.servers()) == 3 and pids[0] not in daemon.servers(), "three again")
    served[1].socket.close()  # its server takes the fifth
    wait_for(lambda: not (fourth.waits() or fifth.waits()), "all are served")
    for client in clients:
        client.socket.close()
    wait_for(lambda: not daemon.servers(), "they end when nobody comes")
    wait_for(lambda: len(records(log, "EXIT", "x")) == 4, "all ends are recorded")
    assert len(records(log, "START", "x")) == 4, "three, and one for the killed"
    again = connect(where)
    assert again.server() not in pids


def test_one_without_a_number_of_its_own(
    launch: Launch, script: Callable[[str], Path], connect: Callable[[int | str], Client]
) -> None:
    """UNLIMITED, and a number from `defaults`: one server, as in xinetd."""
    services = [
        Service("unlimited", free_port(), script(STREAM), wait=True, more={"instances": "UNLIMITED"}),
        Service("defaults", free_port(), script(STREAM), wait=True),
    ]
    daemon = launch(defaults(instances=10) + "".join(service.xinetd() for service in services))
    clients = [(connect(service.port), connect(service.port)) for service in services]
    for first, second in clients:
        assert first.server() in daemon.servers()
        assert second.waits()
    for first, second in clients:
        first.socket.close()
        assert second.server() in daemon.servers()
    assert len(daemon.servers()) == 2


@pytest.mark.parametrize("unix", [False, True], ids=["udp", "unix"])
def test_datagrams(launch: Launch, folder: Path, script: Callable[[str], Path], unix: bool) -> None:
    """Each server takes one datagram and stays: the third waits for a place and is then served, not lost."""
    where: int | str = str(folder / "socket") if unix else free_port()
    over, log = folder / "over", folder / "records"
    service = Service("x", where, script(DGRAM), str(over), wait=True, dgram=True, more={"instances": 2})
    daemon = launch(defaults(log) + service.xinetd())
    family = socket.AF_UNIX if unix else socket.AF_INET
    with Gate(over) as gate, socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.bind(str(folder / "client") if unix else ("127.0.0.1", 0))
        to: Any = where if unix else ("127.0.0.1", where)
        for _ in range(3):
            client.sendto(b"same", to)
        pids = [int(client.recv(100)) for _ in range(2)]
        assert len({*pids}) == 2
        assert daemon.servers() == sorted(pids)
        assert silent(client)
        gate.open()
        assert int(client.recv(100)) not in pids
    wait_for(lambda: not daemon.servers(), "they end")
    counts = [0, 0]

    def balanced() -> bool:
        counts[:] = [len(records(log, kind, "x")) for kind in ("START", "EXIT")]
        return counts[0] == counts[1] >= 3

    wait_for(balanced, lambda: f"as many ended as started: {counts}")
    assert counts[0] <= 4, "both ended at once, so there may have been two for the third"


def test_reloads(
    launch: Launch, folder: Path, script: Callable[[str], Path], connect: Callable[[int | str], Client]
) -> None:
    """Another number, up and down, and the removal of the service while several run."""
    port, other = free_port(), free_port()
    server = script(STREAM)

    def conf(number: int) -> str:
        return defaults() + Service("x", port, server, wait=True, more={"instances": number}).xinetd()

    daemon = launch(conf(1))
    first, second = connect(port), connect(port)
    assert [first.server()] == daemon.servers()
    daemon.reload(conf(2))
    second.server()
    assert len(daemon.servers()) == 2
    third = connect(port)
    daemon.reload(conf(1))
    second.socket.close()  # its server takes the third, or ends for want of clients: nobody in its place
    pid = third.server()
    assert pid in daemon.servers() and len(daemon.servers()) == 2
    before = daemon.servers()
    daemon.reload(defaults() + Service("y", other, server, wait=True).xinetd())
    wait_for(lambda: all(process(pid) is None for pid in before), "they are told to end, and reaped")
    assert not daemon.servers()
    assert connect(other).server() in daemon.servers()


def test_an_inetd_line(
    launch: Launch, script: Callable[[str], Path], connect: Callable[[int | str], Client]
) -> None:
    port = free_port()
    line = Service("x", port, script(STREAM), wait=True).inetd().replace(" wait ", " wait/2 ")
    daemon = launch(line, kind="inetd")
    clients = [connect(port), connect(port)]
    assert sorted(client.server() for client in clients) == daemon.servers()
