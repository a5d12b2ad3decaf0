"""Reloads in storms, of configurations that change in every way, under load.

What must hold: an unchanged service keeps its listener and loses no client; nothing leaks; what was removed is gone.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from contextlib import suppress
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
    await_balance,
    builtin,
    consistent,
    frozen,
    role,
    switches,
    unbalanced,
)

from fastinetd.supervisor.succession import RETIRING_MOST
from support.clients import Held, ask, connect, datagrams, free_port, read_all, read_line
from support.daemon import Launch, records
from support.lacking import need_localhost
from support.proc import below, listeners, listens, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

LISTENER = """import socket, os
s = socket.socket(fileno=0)
s.settimeout(1)
try:
    while True:
        c, _ = s.accept()
        c.sendall(b"waited\\n")
        c.close()
except TimeoutError:
    pass
"""


@pytest.fixture
def waiter(folder: Path) -> Path:
    """A stream wait server: answers clients until none came for a second."""
    path = folder / "waiter"
    path.write_text(f"#!{sys.executable} -IS\n{LISTENER}")
    path.chmod(0o755)
    return path


def test_storm(launch: Launch, keep: Keep[Any], folder: Path, waiter: Path) -> None:
    """Fifty reloads, each with other services, kinds and ports, while clients hammer one that stays."""
    port, one, two, udp, log = free_port(), free_port(), free_port(), free_port(), folder / "records"
    base = defaults(log, instances="UNLIMITED") + entry("busy", port, ECHO, "hello")
    faces = [
        entry("a", one, ECHO, "one") + entry("b", two, ECHO, "two"),
        entry("a", two, ECHO, "two") + entry("b", one, ECHO, "one"),
        entry("a", one, waiter, wait="yes") + builtin("echo", udp, dgram=True),
        builtin("echo", one) + builtin("chargen", udp, dgram=True),
        entry("a", one, CAT, bind="127.0.0.1") + entry("c", two, CAT, only_from="localhost"),
        entry("a", one, ECHO, "new arguments"),
        "",
    ]
    daemon = launch(base + faces[0], metrics=True)
    inode = listeners()[port]
    load = Load(port, 4)
    lasting = []
    for i in range(50):
        daemon.reload(base + faces[i % len(faces)])
        if i % len(faces) == 4:
            lasting.append(keep(Held(one)))
    load.more(20)
    assert load.end() == []
    assert listeners()[port] == inode
    daemon.reload(base + faces[0])
    assert [ask(one), ask(two)] == [b"one\n", b"two\n"]
    wait_for(lambda: not listens(udp, "udp"), "the datagram service's socket is closed")
    await_balance(log, "busy", len(load.answers))
    for client in lasting:
        client.close()
    wait_for(lambda: not daemon.servers(), daemon.servers)
    for service in ("a", "b", "c"):
        wait_for(lambda name=service: not unbalanced(log, name), service)  # type: ignore[misc]
    consistent(daemon)
    wait_for(lambda: len(daemon.roles()) == len(daemon.baseline) + 1 or len(daemon.roles()) <= 8, daemon.roles)


def test_records_of_removed_services(launch: Launch, folder: Path) -> None:
    """A service that is removed and added again, each time at once after its clients: all their records are there."""
    port, log = free_port(), folder / "records"
    gone, there = defaults(log) + builtin("echo", free_port()), entry("brief", port, ECHO, "hello")
    daemon = launch(gone + there)
    for _ in range(8):
        assert [ask(port) for _ in range(40)] == [HELLO] * 40
        daemon.reload(gone)
        wait_for(lambda: not listens(port), "its listener is closed")
        daemon.reload(gone + there)
    await_balance(log, "brief", 320)
    consistent(daemon)


def test_rows_are_used_again(launch: Launch, folder: Path) -> None:
    """9,000 services come and go, more than there are rows."""
    ports = [free_port() for _ in range(750)]
    port = free_port()
    base = defaults() + entry("stays", port, ECHO, "hello")
    daemon = launch(base, "--acceptors", "1")
    for i in range(12):
        daemon.reload(base + "".join(entry(f"s{i}-{n}", p, CAT) for n, p in enumerate(ports)))
        assert "reconfiguration failed" not in daemon.said()
    daemon.reload(base)
    assert ask(port) == HELLO
    consistent(daemon)


@pytest.mark.parametrize("there_and_back", [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_other_address(launch: Launch, there_and_back: tuple[str, str]) -> None:
    """A bind address that covers the old one: served at once, and no word about an address in use."""
    port = free_port()
    before, after = (defaults() + entry("hello", port, ECHO, "hello", bind=address) for address in there_and_back)
    daemon = launch(before)
    (old,) = listeners()[port]
    daemon.reload(after)
    wait_for(lambda: old not in listeners().get(port, {old}), "the new listener", 0.9)
    assert ask(port) == HELLO
    assert "cannot listen" not in daemon.said()


def test_renamed_under_load(launch: Launch, folder: Path) -> None:
    """Another id on the same port: clients are served by the old one or by the new one, never turned away."""
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + entry("name0", port, ECHO, "hello"))
    load = Load(port, 4)
    for i in range(1, 9):
        daemon.reload(defaults(log) + entry(f"name{i}", port, ECHO, "hello"))
        load.more(10)
    lost = load.end()
    assert records(log, "FAIL") == []
    assert len(lost) <= 4 * 8 and set(lost) <= {b""}, lost  # servers of the old id are told to end


def test_renamed_while_closed(launch: Launch) -> None:
    """over_rate = close has closed the port; the reload gives it to another name, which did not ask for the pause."""
    port = free_port()
    daemon = launch(defaults() + entry("old", port, ECHO, "old", cps="1 1000", over_rate="close"))
    assert [ask(port), ask(port)] == [b"old\n", b""]
    wait_for(lambda: "Deactivating service old" in daemon.said(), daemon.said)
    assert not listens(port)
    daemon.reload(defaults() + entry("new", port, ECHO, "new"))
    wait_for(lambda: listens(port), daemon.said)
    assert ask(port) == b"new\n"


def test_wait_and_nowait(launch: Launch, waiter: Path) -> None:
    """The way a service is started changes while clients come: neither kind is left holding the socket."""
    port = free_port()
    nowait = defaults() + entry("x", port, ECHO, "hello")
    wait = defaults() + entry("x", port, waiter, wait="yes")
    daemon = launch(nowait)
    load = Load(port, 4)
    for _ in range(6):
        daemon.reload(wait)
        load.more(40)
        daemon.reload(nowait)
        load.more(40)
    daemon.reload(wait)
    load.more(1)
    assert set(load.end()) <= {b"waited\n"}
    wait_for(lambda: ask(port) == b"waited\n", "the wait server")
    wait_for(lambda: not [name for name in daemon.roles() if name not in daemon.baseline], daemon.roles)
    consistent(daemon)


def test_sessions_of_old_relays(launch: Launch, keep: Keep[Any]) -> None:
    """Clients who stay through a hundred reloads do not keep new roles from starting, nor are they miscounted."""
    echo, port = free_port(), free_port()
    base = defaults(instances="UNLIMITED") + builtin("echo", echo)
    daemon = launch(base + entry("hello", port, ECHO, "0"), metrics=True)
    for i in range(100):
        client = keep(connect(echo))
        client.sendall(b"x\n")
        assert read_line(client) == b"x\n"
        daemon.reload(base + entry("hello", port, ECHO, str(i)))
    assert ask(port) == b"99\n"
    assert "cannot start" not in daemon.said()
    assert 1 <= daemon.metric("fastinetd_children", service="echo-stream") <= 100
    consistent(daemon)


def test_dgram_server_through_reloads(launch: Launch, folder: Path) -> None:
    """A datagram server that runs keeps its socket; a datagram that comes meanwhile is answered once, by it."""
    port = free_port()
    server = folder / "udp"
    server.write_text(
        f"#!{sys.executable} -IS\nimport socket, os\ns = socket.socket(fileno=0)\ns.settimeout(1)\n"
        "try:\n    while True:\n        d, a = s.recvfrom(100)\n        s.sendto(str(os.getpid()).encode(), a)\n"
        "except TimeoutError:\n    pass\n"
    )
    server.chmod(0o755)
    base = defaults() + entry("udp", port, server, socket_type="dgram", protocol="udp", wait="yes")
    daemon = launch(base)
    with datagrams() as s:
        answers = set()
        for i in range(10):
            s.sendto(b"x", ("127.0.0.1", port))
            answers.add(s.recv(100))
            daemon.reload(base + entry(f"other{i}", free_port(), CAT))
        s.setblocking(False)
        with pytest.raises(BlockingIOError):
            s.recv(100)
        assert len(answers) == 1
    daemon.reload(base)
    wait_for(lambda: not daemon.servers(), "the server leaves")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.settimeout(10)
        again.sendto(b"x", ("127.0.0.1", port))
        assert again.recv(100) not in answers


def test_removed_while_a_name_is_asked_for(launch: Launch, keep: Keep[Any], folder: Path) -> None:
    """A client's name is still asked for, two reloads ago, when his service is removed and another one comes: he is not
    served in the name of the other."""
    need_localhost()
    asked, busy, other, log = free_port(), free_port(), free_port(), folder / "records"
    base = defaults(log) + entry("busy", busy, ECHO, "hello")
    named = entry("named", asked, CAT, only_from="localhost")
    daemon = launch(base + named, metrics=True)
    with frozen(role(daemon, "doorman")):
        client = keep(connect(asked))
        daemon.await_metric("fastinetd_connections_accepted_total", 1, service="named")
        first = set(acceptors(daemon))
        daemon.reload(defaults(log) + entry("busy", busy, ECHO, "hello", nice=1) + named)
        daemon.reload(base)
        ask(busy)
        wait_for(lambda: len(first & set(below(daemon.pid))) == 1, "only who asks is left of the first acceptors")
        at_rest([daemon.pid], 2, 0.5, switches)  # whatever becomes of the removed one has become of it
        daemon.reload(base + entry("other", other, ECHO, "other"))
        assert ask(other) == b"other\n"
    client.shutdown(socket.SHUT_WR)
    read_all(client)
    wait_for(lambda: not first & set(below(daemon.pid)), "it has left")
    await_balance(log, "other", 1)
    consistent(daemon)


def test_what_cannot_be_had_leaves_everything_as_it_is(launch: Launch, folder: Path) -> None:
    """There is no descriptor left for what a new service needs: the reload is refused, and can be made later."""
    port, more = free_port(), free_port()
    before = defaults() + entry("x", port, ECHO, "old")
    after = defaults() + entry("x", port, ECHO, "new") + entry("pool", more, CAT, spawn="zygote")
    daemon = launch(before)
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (64, limits[1]))
    daemon.rewrite(after)
    daemon.send(signal.SIGHUP)
    wait_for(lambda: "reconfiguration failed" in daemon.said(), daemon.said)
    assert ask(port) == b"old\n"
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    daemon.reload()
    assert ask(port) == b"new\n"
    assert ask(more, b"hello\n") == b"hello\n"
    daemon.remember_descriptors()


def test_whoever_stops_roles_stops_no_reload(launch: Launch) -> None:
    """No acceptor that was replaced ever leaves: each reload is taken all the same, and those who are too many are
    killed."""
    port = free_port()
    builtins = builtin("echo", free_port())
    daemon = launch(defaults() + entry("hello", port, ECHO, "hello") + builtins, "--acceptors", "2")
    stopped: list[set[int]] = []
    for number in range(RETIRING_MOST + 2):
        roles = {pid for pid, each in below(daemon.pid).items() if each.parent == daemon.pid and each.state != "T"}
        for pid in roles:
            with suppress(ProcessLookupError):  # one without privileges is made to go on, and leaves
                os.kill(pid, signal.SIGSTOP)
        stopped.append(roles)
        if number > RETIRING_MOST:
            wait_for(lambda: not stopped[0] & set(below(daemon.pid)), daemon.said)
        daemon.reload(defaults() + entry("hello", port, ECHO, str(number)) + builtins)
        assert ask(port) == f"{number}\n".encode()
    for pid in set().union(*stopped) & set(below(daemon.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
