"""The socket that a server is given is of the family that it has under xinetd, on both of its ends."""

from __future__ import annotations

import ast
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.clients import connect, datagrams, has_ipv6, read_all
from support.pair import Pair, Side
from support.texts import entry

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"),
]

TELL = """#!{python} -IS
import os, socket
s = socket.socket(fileno=0)
if s.type == socket.SOCK_DGRAM:
    _, sender = s.recvfrom(10)
    s.sendto(repr((s.family.name, s.getsockname(), sender)).encode(), sender)
else:
    if s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener, (s, _) = s, s.accept()
    s.sendall(repr((s.family.name, s.getsockname(), s.getpeername())).encode())
"""
"""Tells what the kernel says of the server's socket."""

FOUR, SIX = "127.0.0.1", "::1"

ENTRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "four": {"flags": "IPv4"},
    "six": {"flags": "IPv6"},
    "both": {"flags": "IPv4 IPv6"},
    "six-alone": {"flags": "IPv6", "v6only": "yes"},
    "v6only": {"v6only": "yes"},
    "everywhere": {"bind": "::"},
    "everywhere-four": {"bind": "0.0.0.0"},
    "address-four": {"bind": FOUR},
    "address-six": {"bind": SIX},
    "inside-six": {"bind": "::ffff:127.0.0.1"},
    "accepting": {"wait": "yes"},
    "accepting-four": {"wait": "yes", "flags": "IPv4"},
}
"""Stream services."""

DATAGRAMS: dict[str, dict[str, Any]] = {
    "dgram": {},
    "dgram-four": {"flags": "IPv4"},
    "dgram-six": {"flags": "IPv6"},
    "dgram-six-alone": {"flags": "IPv6", "v6only": "yes"},
}

TAKES_FOUR_ALONE = {"four", "everywhere-four", "address-four", "inside-six", "accepting-four", "dgram-four"}
TAKES_SIX_ALONE = {"six-alone", "v6only", "address-six", "dgram-six-alone"}


class Seen(NamedTuple):
    """A server's socket, as the server sees it."""

    family: str
    own: str
    peer: str


def takes(name: str, host: str) -> bool:
    return name not in (TAKES_SIX_ALONE if host == FOUR else TAKES_FOUR_ALONE)


def clients(names: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    return [(name, host) for name in names for host in (FOUR, SIX)]


@pytest.fixture(scope="module")
def pair(need: Callable[[str], str]) -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="fastinetd."))
    folder.chmod(0o755)
    tell = folder / "tell"
    tell.write_text(TELL.format(python=sys.executable))
    tell.chmod(0o755)
    entries = {name: text(name, tell, given) for name, given in ENTRIES.items()}
    # One for each client: xinetd throws away what waits when a server ends.
    standard = {"socket_type": "dgram", "protocol": "udp", "wait": "yes"}
    entries |= {f"{name}-{host}": text(f"{name}-{host}", tell, standard | DATAGRAMS[name])
                for name, host in clients(DATAGRAMS)}
    made = Pair(need("xinetd"), folder, "", entries)
    yield made
    made.finish()
    shutil.rmtree(folder, ignore_errors=True)


def text(name: str, server: Path, attributes: dict[str, Any]) -> str:
    lines = entry(name, 0, server, **attributes).replace("port = 0", "port = {port}").splitlines(keepends=True)
    return "".join(line for line in lines if "bind" in attributes or line.strip() != f"bind = {FOUR}")


def seen(answer: bytes) -> Seen:
    """A report, without ports."""
    family, own, peer = ast.literal_eval(answer.decode())
    return Seen(family, own[0], peer[0])


@pytest.mark.parametrize(("name", "host"), clients(ENTRIES))
def test_stream(pair: Pair, name: str, host: str) -> None:
    if not takes(name, host):
        for side in pair.sides:
            with pytest.raises(ConnectionRefusedError):
                connect(side.port[name], host)
        return
    theirs, ours = (seen(read_all(connect(side.port[name], host))) for side in pair.sides)
    assert ours == theirs
    wait = "wait" in ENTRIES[name]
    assert ours.family == ("AF_INET6" if host == SIX or name == "accepting" else "AF_INET")
    assert ours.peer == ("::ffff:127.0.0.1" if wait and ours.family == "AF_INET6" and host == FOUR else host)


def datagram(side: Side, name: str, host: str) -> Seen | None:
    """What the server says; None where nobody listens."""
    with datagrams(host) as client:
        client.connect((host, side.port[f"{name}-{host}"]))
        client.send(b"x")
        try:
            return seen(client.recv(1000))
        except ConnectionRefusedError:
            return None


@pytest.mark.parametrize(("name", "host"), clients(DATAGRAMS))
def test_datagram(pair: Pair, name: str, host: str) -> None:
    theirs, ours = (datagram(side, name, host) for side in pair.sides)
    assert ours == theirs
    assert (ours is not None) == takes(name, host)


def test_a_client_that_has_nothing_more_to_say(pair: Pair) -> None:
    """xinetd can no longer change the family then; here it is what it always is."""
    for _ in range(10):
        client = connect(pair.ours.port["plain"])
        client.shutdown(socket.SHUT_WR)
        assert seen(read_all(client)).family == "AF_INET"
