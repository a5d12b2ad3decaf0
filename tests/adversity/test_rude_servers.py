"""Server programs that do not behave.

What must hold: each is accounted for until it ends, however it does; its orphans are reaped; the next one is started.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import (
    ECHO,
    HELLO,
    Keep,
    Load,
    acceptors,
    at_rest,
    await_balance,
    builtin,
    consistent,
    starts_again_in_vain,
)  # fmt: skip

from support.clients import Held, ask, ask_datagram, connect, datagrams, free_port, read_line
from support.daemon import Launch, records
from support.intruder import Intruder, tries
from support.proc import process, wait_for
from support.texts import Service, defaults, entry

pytestmark = pytest.mark.usefixtures("root")

Script = Callable[[str], Path]


@pytest.fixture
def script(folder: Path) -> Script:
    """A server program in Python."""

    def make(text: str) -> Path:
        path = folder / f"server{len(list(folder.glob('server*')))}"
        path.write_text(f"#!{sys.executable} -IS\nimport os, signal, socket, sys, time\n{text}")
        path.chmod(0o755)
        return path

    return make


IGNORES = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"ready\\n")
while os.read(0, 100):
    pass
"""


def test_ignores_sigterm(launch: Launch, keep: Keep[Any], script: Script) -> None:
    """It outlives the removal of its service and the daemon's end, which is said and takes bounded time."""
    one, two = free_port(), free_port()
    base = defaults() + entry("two", two, script(IGNORES))
    daemon = launch(base + entry("one", one, script(IGNORES)))
    clients = [keep(connect(port)) for port in (one, two)]
    assert [read_line(client) for client in clients] == [b"ready\n"] * 2
    servers = daemon.servers()
    daemon.reload(base)
    wait_for(lambda: daemon.servers() == servers, daemon.servers)  # a role just forked has not its name yet
    assert daemon.stop(timeout=10) == 0
    assert "did not end on SIGTERM" in daemon.said()
    for client in clients:
        client.close()


def test_stops_itself(launch: Launch, keep: Keep[Any], folder: Path, script: Script) -> None:
    """A stopped server still counts; continued, it goes on."""
    port, log = free_port(), folder / "records"
    server = script('os.write(1, b"ready\\n"); os.kill(os.getpid(), signal.SIGSTOP); os.write(1, b"again\\n")')
    daemon = launch(defaults(log) + entry("x", port, server, instances=1))
    client = keep(connect(port))
    assert read_line(client) == b"ready\n"
    (pid,) = daemon.servers()
    wait_for(lambda: (each := process(pid)) is not None and each.state == "T", "stopped")
    assert ask(port) == b""
    os.kill(pid, signal.SIGCONT)
    assert read_line(client) == b"again\n"
    await_balance(log, "x", 1)


DETACHES = """
if os.fork() == 0:
    os.setsid()
    os.setpgid(0, 0) if os.getpgrp() != os.getpid() else None
    if os.fork() == 0:
        while (data := os.read(0, 100)):
            os.write(1, data)
    os._exit(0)
os._exit(0)
"""


def test_detaches(launch: Launch, keep: Keep[Any], folder: Path, script: Script) -> None:
    """It forks twice and exits: its place is free again, its grandchild keeps the client, and is reaped at last."""
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + entry("x", port, script(DETACHES), instances=1), metrics=True)
    for count in range(1, 6):
        client = keep(Held(port))
        assert client.admitted
        wait_for(lambda n=count: len(records(log, "EXIT", "x")) == n, "counted out")  # type: ignore[misc]
        assert client.echoes()
    assert daemon.metric("fastinetd_children", service="x") == 0
    victim = acceptors(daemon)[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in acceptors(daemon) and acceptors(daemon), "replaced")
    assert client.echoes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_killed(launch: Launch, folder: Path, script: Script, number: int) -> None:
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + entry("x", port, script(f"os.kill(os.getpid(), {int(number)})")), metrics=True)
    assert ask(port) == b""
    await_balance(log, "x", 1)
    assert f"signal={int(number)}" in records(log, "EXIT", "x")[0]
    assert daemon.metric("fastinetd_child_exits_total", service="x", status="signal") == 1


# ---- wait services ----


def wait_entry(port: int, server: Path, dgram: bool) -> str:
    kind = {"socket_type": "dgram", "protocol": "udp"} if dgram else {}
    return entry("x", port, server, wait="yes", **kind)


@pytest.mark.parametrize("dgram", [True, False], ids=["dgram", "stream"])
def test_exits_at_once(launch: Launch, keep: Keep[Any], folder: Path, script: Script, dgram: bool) -> None:
    """It never takes what is there: it is started again with growing pauses, not as fast as possible; others go on."""
    port, other, log = free_port(), free_port(), folder / "records"
    daemon = launch(defaults(log) + wait_entry(port, script(""), dgram) + entry("hello", other, ECHO, "hello"))
    starts_again_in_vain(daemon, port, log, dgram, keep)
    assert ask(other) == HELLO
    at_rest([daemon.pid], 15, 0.5)
    consistent(daemon)


def test_never_accepts(launch: Launch, keep: Keep[Any], script: Script) -> None:
    """A stream wait server that sits on its socket: one of it, whoever comes; and its end is seen."""
    port = free_port()
    daemon = launch(defaults() + wait_entry(port, script("signal.pause()"), False))
    for _ in range(10):
        keep(connect(port))
    wait_for(daemon.servers, "started")
    at_rest([daemon.pid], 0, 0.2)
    (pid,) = daemon.servers()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in daemon.servers() and daemon.servers(), "the next one")


def test_leaves_its_socket_changed(launch: Launch, script: Script) -> None:
    """It leaves the shared socket non-blocking: the next server finds it as it should be."""
    port = free_port()
    server = script(
        "s = socket.socket(fileno=0)\nmode = os.get_blocking(0)\nd, a = s.recvfrom(100)\n"
        "os.set_blocking(0, False)\ns.sendto(str(mode).encode(), a)\n"
    )
    launch(defaults() + wait_entry(port, server, True))
    for text in (b"1", b"2", b"3"):
        assert ask_datagram(port, text) == b"True"


SPOILS = {
    "tcp": "c, a = s.accept(); c.sendall(b'one\\n'); c.close(); s.shutdown(socket.SHUT_RD)",
    "unix": "c, a = s.accept(); c.sendall(b'one\\n'); c.close(); s.shutdown(socket.SHUT_RD)",
    "shut": "d, a = s.recvfrom(9); s.sendto(b'one\\n', a)\ntry: s.shutdown(socket.SHUT_RD)\nexcept OSError: pass",
    "connected": "d, a = s.recvfrom(9); s.sendto(b'one\\n', a); s.connect(a)",
}


@pytest.mark.parametrize("orphan", [False, True], ids=["", "kept"])
@pytest.mark.parametrize("how", [*SPOILS])
def test_spoils_its_socket(launch: Launch, folder: Path, script: Script, how: str, orphan: bool) -> None:
    """It shuts the shared socket down or connects it: there is another one for the next client, and nothing spins,
    although a child of the server may have kept the old one."""
    port: int | str = str(folder / "socket") if how == "unix" else free_port()
    child = f"\nif os.fork() == 0: os.mkfifo({str(folder / 'end')!r}); open({str(folder / 'end')!r})" if orphan else ""
    server = script(f"s = socket.socket(fileno=0)\n{SPOILS[how]}{child}")
    dgram = how in ("shut", "connected")
    daemon = launch(defaults() + Service("x", port, server, wait=True, dgram=dgram).xinetd())
    rounds = 1 if orphan else 3  # of two datagram sockets on a port the kernel chooses one
    for count in range(1, rounds + 1):
        answer = ask_datagram(int(port), b"x") if dgram else ask(port)
        assert answer == b"one\n"
        wait_for(lambda n=count: daemon.said().count("listening on") == n, daemon.said)  # type: ignore[misc]
    at_rest([daemon.pid], 10)
    assert daemon.said().count("listening on") == rounds
    consistent(daemon)
    if orphan:
        (folder / "end").write_bytes(b"")


def test_spoils_its_socket_again_and_again(launch: Launch, keep: Keep[Any], script: Script) -> None:
    """Each time costs new roles: there are growing pauses, so that sessions of built-in services are not cut short."""
    port, echo = free_port(), free_port()
    server = script(f"s = socket.socket(fileno=0)\n{SPOILS['tcp']}")
    daemon = launch(defaults() + Service("x", port, server, wait=True).xinetd() + builtin("echo", echo))
    session = keep(Held(echo))
    load = Load(port, 2, b"one\n")
    wait_for(lambda: "in 0.8 s" in daemon.said(), daemon.said)
    load.end()
    assert daemon.said().count("opened anew") == 5  # at once, then after 0.1, 0.2, 0.4 and 0.8 s
    assert session.echoes()


@pytest.mark.parametrize("how", ["tcp", "shut"])
def test_nobody_else_gets_the_port(launch: Launch, script: Script, how: str) -> None:
    """While servers spoil the socket again and again, another user who tries to bind the port all the time has it at no
    moment; and whoever comes while the next one is not served yet waits, and is not refused."""
    port, dgram = free_port(), how == "shut"
    server = script(f"s = socket.socket(fileno=0)\n{SPOILS[how]}")
    daemon = launch(defaults() + Service("x", port, server, wait=True, dgram=dgram).xinetd())
    with Intruder(port, socket.SOCK_DGRAM if dgram else socket.SOCK_STREAM) as intruder:
        for count in range(1, 5):
            answer = ask_datagram(port, b"x") if dgram else ask(port)
            assert answer == b"one\n"
            wait_for(lambda n=count: daemon.said().count("opened anew") == n, daemon.said)  # type: ignore[misc]
    assert "opened anew, and served in 0.4 s" in daemon.said()
    assert intruder.got == ""


LEFT = {
    "shut": "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.shutdown(socket.SHUT_RD)",
    "filter": "s.setsockopt(socket.SOL_SOCKET, 26, struct.pack('HP', 1, ctypes.addressof(drop)))",  # SO_ATTACH_FILTER
}


@pytest.mark.parametrize("how", [*LEFT])
def test_leaves_its_socket_spoilt_to_a_service_without_wait(launch: Launch, script: Script, how: str) -> None:
    """A reload makes the service one without wait while its server has spoilt the socket and runs: nobody else gets the
    port at any time, and once that server has ended clients are served."""
    port = free_port()
    server = script(
        "import ctypes, struct\ns = socket.socket(fileno=0)\nc, a = s.accept()\n"
        f"drop = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0), 8)\n{LEFT[how]}\n"
        "c.sendall(b'one\\n'); c.close(); signal.pause()"
    )
    daemon = launch(defaults() + wait_entry(port, server, False))
    assert ask(port) == b"one\n"
    (pid,) = daemon.servers()
    daemon.reload(defaults() + entry("x", port, ECHO, "hello"))
    assert tries(port) == ""
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: pid not in daemon.servers() and ("listening on" in daemon.said() or how == "filter"), daemon.said)
    wait_for(lambda: ask(port) == HELLO, daemon.said)
    assert tries(port) == ""
    consistent(daemon)
    daemon.remember_descriptors()  # the acceptors have a listener that they had not


FORKS = """
s = socket.socket(fileno=0)
d, a = s.recvfrom(100)
if os.fork():
    os._exit(0)
mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mine.sendto(d, a)
"""


def test_forks_for_each_datagram(launch: Launch, folder: Path, script: Script) -> None:
    """The parent takes a datagram and exits, the child answers from a socket of its own (as in.tftpd does)."""
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + wait_entry(port, script(FORKS), True))
    for i in range(20):
        assert ask_datagram(port, str(i).encode()) == str(i).encode()
    await_balance(log, "x", 20)
    consistent(daemon)


def test_same_datagram_again(launch: Launch, script: Script) -> None:
    """A client that asks the same again and again of a server that answers one datagram each time is not slowed."""
    port = free_port()
    server = script("s = socket.socket(fileno=0)\nd, a = s.recvfrom(9)\ns.sendto(d, a)")
    launch(defaults() + wait_entry(port, server, True))
    with datagrams() as s:
        for _ in range(8):
            s.sendto(b"same", ("127.0.0.1", port))
        s.settimeout(4)
        assert [s.recv(9) for _ in range(8)] == [b"same"] * 8


def test_many_end_beside_a_killed_monitor(launch: Launch, folder: Path, script: Script) -> None:
    """The end of a wait server is seen although a role ended in the same moment."""
    port = free_port()
    server = script("s = socket.socket(fileno=0)\nd, a = s.recvfrom(9)\ns.sendto(d, a)\nsignal.pause()")
    daemon = launch(defaults() + wait_entry(port, server, True), metrics=True)
    for text in (b"1", b"2", b"3", b"4"):
        assert ask_datagram(port, text) == text
        (pid,) = daemon.servers()
        monitor = daemon.roles()["monitor"]
        os.kill(daemon.pid, signal.SIGSTOP)
        os.kill(monitor, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.kill(daemon.pid, signal.SIGCONT)
        wait_for(lambda old=monitor: daemon.roles().get("monitor", old) != old, "another monitor")  # type: ignore[misc]
