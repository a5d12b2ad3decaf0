"""Sockets whose close sleeps, from clients of unix sockets and from servers: no other client waits for that."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adversity.harm import ECHO, HELLO

from support.clients import ask, free_port
from support.daemon import Launch
from support.lingering import LINGER, lingering
from support.proc import listens, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

INTERNAL = """
service echo
{{
    type = INTERNAL
    socket_type = {kind}
    protocol = unix
    bind = {path}
    wait = {wait}
    user = root
    socket_mode = 0666
}}
"""
INTERNAL_TCP = """
service echo
{{
    id = echo-tcp
    type = INTERNAL UNLISTED
    socket_type = stream
    port = {port}
    wait = no
    user = root
}}
"""


SendLingering = Callable[[Path, socket.SocketKind], None]


@pytest.fixture
def send_lingering() -> Iterator[SendLingering]:
    """As a client of a unix socket: what is in its queue, or on its way, has the last reference.

    The client is a process of its own, whose end closes what nobody has taken: that does not sleep. What is sent to
    the lingering socket's other end is read by nobody until the test is over.
    """
    readers: list[socket.socket] = []

    def send(path: Path, kind: socket.SocketKind) -> None:
        sock, reader = lingering()
        readers.append(reader)
        go, went = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.read(go, 1)  # from now on this process alone has it
                client = socket.socket(socket.AF_UNIX, kind)
                client.connect(str(path))
                socket.send_fds(client, [b"x"], [sock.fileno()])
            finally:
                os._exit(0)
        sock.close()
        os.write(went, b"x")
        os.close(go)
        os.close(went)
        os.waitpid(pid, 0)

    yield send
    for reader in readers:
        reader.close()


@pytest.fixture
def prompt() -> Iterator[Callable[[], None]]:
    """To be called before, and it is quick until the end."""
    begun: list[float] = []
    yield lambda: begun.append(time.monotonic())
    assert time.monotonic() - begun[0] < LINGER / 2


@pytest.mark.parametrize(("kind", "wait"), [("stream", "no"), ("dgram", "yes")])
def test_a_client_of_a_builtin_service(
    launch: Launch, folder: Path, kind: str, wait: str, send_lingering: SendLingering,
    prompt: Callable[[], None],
) -> None:
    path, port = folder / "echo", free_port()
    launch(defaults() + INTERNAL.format(kind=kind, path=path, wait=wait) + INTERNAL_TCP.format(port=port))
    prompt()
    for _ in range(3):
        send_lingering(path, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
    assert ask(port, b"are you there?", timeout=LINGER / 2) == b"are you there?"


@pytest.mark.parametrize(("kind", "wait"), [("stream", "no"), ("dgram", "yes"), ("stream", "yes")])
def test_a_client_that_is_refused(
    launch: Launch, folder: Path, kind: str, wait: str, send_lingering: SendLingering,
    prompt: Callable[[], None],
) -> None:
    """By an acceptor, or by the supervisor, which must answer a reload."""
    path, port, log = folder / "s", free_port(), folder / "log"
    unix = entry(
        "closed",
        0,
        ECHO,
        "no",
        socket_type=kind,
        protocol="unix",
        bind=path,
        wait=wait,
        socket_mode="0666",
        access_times="0:00-0:00",
    )
    daemon = launch(
        defaults(log) + unix.replace("    port = 0\n", "") + entry("open", port, ECHO, "hello"), "--acceptors", "1"
    )
    prompt()
    send_lingering(path, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
    wait_for(lambda: "FAIL: closed" in log.read_text(), log.read_text)
    assert ask(port) == HELLO
    daemon.reload(daemon.conf.read_text() + entry("third", free_port(), ECHO, "x"))
    daemon.remember_descriptors()


CONNECTS = """
import socket, sys
sys.path.insert(0, {tests!r})
from support.lingering import linger
listener = socket.socket(fileno=0)
listener.shutdown(socket.SHUT_RDWR)
listener.connect(("127.0.0.1", {port}))
linger(listener)
"""


def test_a_wait_server_that_connects_its_listener(launch: Launch, folder: Path, prompt: Callable[[], None]) -> None:
    """The supervisor's is the last close of what was a listener."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = folder / "connects.py"
        script.write_text(CONNECTS.format(tests=str(Path(__file__).parents[1]), port=silent.getsockname()[1]))
        daemon = launch(defaults() + entry("waits", port, sys.executable, str(script), wait="yes"))
        prompt()
        with socket.create_connection(("127.0.0.1", port)):
            wait_for(lambda: "opened anew" in daemon.said(), daemon.said)
        wait_for(lambda: listens(port), "it listens again")
        daemon.reload(daemon.conf.read_text() + entry("third", free_port(), ECHO, "x"))
        daemon.remember_descriptors()
