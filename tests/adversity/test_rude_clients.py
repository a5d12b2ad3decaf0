"""Clients that stop half way, send nonsense, or nothing.

What must hold: nobody else waits for them, nothing they leave behind stays, no built-in service answers another.
"""

from __future__ import annotations

import resource
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import (
    CAT,
    ECHO,
    HELLO,
    Keep,
    Load,
    acceptors,
    at_rest,
    builtin,
    consistent,
    role,
    unbalanced,
)  # fmt: skip

from support.clients import ask, connect, crowd, datagrams, free_port, http, read_all
from support.daemon import Launch, records
from support.proc import descriptors, wait_for
from support.programs import Need
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

RESET = struct.pack("ii", 1, 0)


def reset(port: int) -> None:
    with connect(port) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def test_connect_and_reset(launch: Launch, folder: Path) -> None:
    """Gone before they are accepted, or before their server starts: each START has its EXIT, limits are given back."""
    port, echo, log = free_port(), free_port(), folder / "records"
    daemon = launch(
        defaults(log) + entry("hello", port, ECHO, "hello", instances=4, per_source=4) + builtin("echo", echo),
        metrics=True,
    )
    crowd(lambda i: reset(port if i % 2 else echo), 600, 20)
    wait_for(lambda: not daemon.servers() and not unbalanced(log, "hello"), lambda: unbalanced(log, "hello"))
    wait_for(lambda: daemon.metric("fastinetd_children") == 0, "nobody counted")
    assert [ask(port) for _ in range(4)] == [HELLO] * 4
    assert ask(echo, b"x") == b"x"
    consistent(daemon)


def test_never_reading(launch: Launch, keep: Keep[Any], need: Need) -> None:
    """Clients of chargen, echo and a program that writes for ever, who never read, delay nobody and cost no time."""
    chargen, echo, flood, port = (free_port() for _ in range(4))
    daemon = launch(
        defaults(instances="UNLIMITED") + builtin("chargen", chargen) + builtin("echo", echo)
        + entry("flood", flood, need("yes")) + entry("hello", port, ECHO, "hello")
    )  # fmt: skip
    deaf = [keep(connect(p)) for p in (chargen, echo, flood) for _ in range(20)]
    for client in deaf[20:40]:
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                client.send(bytes(65536))
    relay = role(daemon, "relay")
    assert [ask(port) for _ in range(20)] == [HELLO] * 20 and ask(echo, b"x") == b"x"
    at_rest([relay], 10)


def test_chargen_goes_on(launch: Launch) -> None:
    """A reader who keeps up gets as much as it wants."""
    port = free_port()
    launch(defaults() + builtin("chargen", port))
    with connect(port, timeout=5) as client:
        received = 0
        while received < 4 << 20:
            received += len(client.recv(1 << 20))


def test_half_close(launch: Launch) -> None:
    """What was sent before the client's end is answered."""
    echo, cat = free_port(), free_port()
    launch(defaults() + builtin("echo", echo) + entry("cat", cat, CAT))
    text = bytes(range(256)) * 1000
    for port in (echo, cat):
        with connect(port) as client:
            client.sendall(text[:100])
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == text[:100]


def test_five_thousand_idle(launch: Launch, keep: Keep[Any]) -> None:
    """Clients who say nothing: a thousand to the relay (its room), four thousand to a program; others go on beside."""
    echo, held, port = free_port(), free_port(), free_port()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    daemon = launch(
        defaults(instances="UNLIMITED") + builtin("echo", echo) + entry("held", held, CAT)
        + entry("hello", port, ECHO, "hello"), metrics=True,
    )  # fmt: skip
    clients = [keep(connect(echo)) for _ in range(1000)] + [keep(connect(held)) for _ in range(4000)]
    wait_for(lambda: daemon.metric("fastinetd_children") == 5000, "all are in", 60)
    assert [ask(port) for _ in range(50)] == [HELLO] * 50 and ask(echo, b"x") == b"x"
    at_rest(daemon.roles().values(), 5, 0.5)
    for client in clients:
        client.close()
    wait_for(lambda: daemon.metric("fastinetd_children") == 0, "all are gone", 60)
    consistent(daemon)


def test_metrics_port(launch: Launch, keep: Keep[Any]) -> None:
    """Slow heads, garbage and too many connections on the metrics port: the next scrape is answered."""
    port = free_port()
    daemon = launch(defaults() + entry("hello", port, ECHO, "hello"), metrics=True)
    at = daemon.metrics_port
    slow = [keep(connect(at)) for _ in range(300)]
    for client in slow:
        client.send(b"GET /metr")
    assert http(at, "/-/healthy")[0] == 200
    garbage = [
        b"\0" * 9000, b"GET\r\n\r\n", b"\r\n" * 5000, b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 9000,
        b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n", b"\xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost:a\r\nhost:b\r\n\r\n",
    ]  # fmt: skip
    for text in garbage:
        answer = ask(at, text)
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), (text[:40], answer[:80])
    crowd(lambda _: reset(at), 200, 20)
    daemon.await_metric("fastinetd_children", 0, service="hello")
    for client in slow:
        client.close()
    monitor = role(daemon, "monitor")
    wait_for(lambda: sum("socket" in what for what in descriptors(monitor).values()) <= 3, lambda: descriptors(monitor))


def test_datagrams(launch: Launch, folder: Path) -> None:
    """Of no length and of the greatest: echoed whole; chargen's answer is bounded; none stops the service."""
    echo, chargen, log = free_port(), free_port(), folder / "records"
    launch(defaults(log) + builtin("echo", echo, dgram=True) + builtin("chargen", chargen, dgram=True))
    with datagrams() as s:
        for size in (0, 1, 1400, 65507, 0, 3):
            s.sendto(bytes(size), ("127.0.0.1", echo))
            assert len(s.recv(70000)) == size
            s.sendto(bytes(size), ("127.0.0.1", chargen))
            assert 0 < len(s.recv(70000)) <= 512


LOOP = """
import socket, sys
for source in (7, 19):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.2", source))
    s.settimeout(0.3)
    for port in (7, 19):
        s.sendto(b"x", ("127.0.0.1", port))
    try:
        print("answered", source, s.recv(100))
    except TimeoutError:
        pass
"""


def test_echo_and_chargen_do_not_play(launch: Launch, folder: Path, need: Need) -> None:
    """Datagrams that claim to come from echo or chargen are refused, in a network of their own on the real ports."""
    need("ip")
    log = folder / "records"
    daemon = launch(
        defaults(log) + builtin("echo", 7, dgram=True) + builtin("chargen", 19, dgram=True),
        prefix=[need("unshare"), "--net", need("sh"), "-c", 'ip link set lo up && exec "$@"', "sh"],
    )  # fmt: skip
    done = subprocess.run(
        [need("nsenter"), "--net", "-t", str(daemon.pid), sys.executable, "-c", LOOP],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done
    wait_for(lambda: len(records(log, "FAIL")) == 4, lambda: records(log))


def test_load_beside_a_flood_of_resets(launch: Launch) -> None:
    """Clients who reset at once, as fast as they can, and others who are served meanwhile."""
    port = free_port()
    daemon = launch(defaults(instances="UNLIMITED") + entry("hello", port, ECHO, "hello"))
    load = Load(port, 2)
    crowd(lambda _: reset(port), 1500, 8)
    load.more(20)
    assert load.end() == []
    assert len(acceptors(daemon)) >= 1
    consistent(daemon)
