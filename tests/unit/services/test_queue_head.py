"""What is first in a queue: signs, senders, and taking it off."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastinetd.services.queue_head import Head, discard_first, first_sender, head_of_queue, is_hung_up, is_readable

BOTH = pytest.mark.parametrize("shared", [False, True])
Pair = tuple[socket.socket, socket.socket]


def datagrams(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM)


@pytest.fixture
def udp() -> Iterator[Pair]:
    with datagrams(socket.AF_INET) as sock, datagrams(socket.AF_INET) as to:
        sock.bind(("127.0.0.1", 0))
        to.connect(sock.getsockname())
        yield sock, to


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def sign(sock: socket.socket, shared: bool = False) -> Head:
    found = head_of_queue(sock, shared=shared)
    assert found is not None
    return found


@BOTH
def test_an_empty_queue_has_none(udp: Pair, listening: socket.socket, shared: bool) -> None:
    assert head_of_queue(udp[0], shared=shared) is None
    assert head_of_queue(listening, shared=shared) is None
    assert first_sender(udp[0]) is None


def test_the_same_again_is_told_from_the_first(udp: Pair) -> None:
    """From the first look on the kernel keeps the time of each, so that looks beside reading servers know it too."""
    sock, client = udp
    assert head_of_queue(sock, shared=False) is None
    stamp = None
    while stamp is None:  # the kernel begins a little later than it is asked to
        client.send(b"probe")
        stamp = sign(sock, True).stamp
        sock.recv(9)
    client.send(b"same")
    first = sign(sock)
    assert first.stamp is not None
    client.send(b"same")
    for shared in (True, False, True):
        assert sign(sock, shared).stamp == first.stamp
        assert sign(sock, shared).same(first)
    sock.recv(9)
    for shared in (True, False, True):
        assert not first.same(sign(sock, shared))


def test_servers_do_not_find_the_time(udp: Pair) -> None:
    sock, client = udp
    client.send(b"x")
    sign(sock)
    sign(sock, True)
    assert sock.recvmsg(9, 100)[:3] == (b"x", [], 0)


def test_without_a_time_contents_count(udp: Pair) -> None:
    """It may be that no time is known: then nobody is taken to have read, and pauses grow."""
    one, other = Head((b"x", "a")), Head((b"x", "a"), (5, 0))
    assert one.same(other) and other.same(one) and one.same(one)
    assert not other.same(Head((b"x", "a"), (6, 0)))
    assert not one.same(Head((b"y", "a")))
    assert not one.same(None)


def test_a_datagram_that_came_before_any_look(udp: Pair) -> None:
    """Seen beside servers first: either it has a time that stays, or none."""
    sock, client = udp
    client.send(b"x")
    assert sign(sock, True).same(sign(sock, True))


def test_unix_datagrams(tmp_path: Path) -> None:
    with datagrams(socket.AF_UNIX) as sock, datagrams(socket.AF_UNIX) as to:
        sock.bind(str(tmp_path / "s"))
        to.connect(str(tmp_path / "s"))
        to.send(b"1")
        to.send(b"2")
        first = sign(sock, True)
        assert first.same(sign(sock)) and first.same(sign(sock, True))
        discard_first(sock, (b"", 0))
        assert not first.same(sign(sock, True))
        assert first_sender(sock) == (b"", 0)


@BOTH
def test_the_length_of_a_streams_queue(listening: socket.socket, shared: bool) -> None:
    with socket.create_connection(listening.getsockname()) as one:
        first = sign(listening, shared)
        assert first.same(sign(listening, shared))
        with socket.create_connection(listening.getsockname()):
            assert not first.same(sign(listening, shared))
            assert discard_first(listening, (b"", 0)) == (bytes([127, 0, 0, 1]), one.getsockname()[1])


def test_nothing_to_take(udp: Pair, listening: socket.socket) -> None:
    """What was there is gone: nobody waits for the next."""
    assert discard_first(udp[0], (b"abcd", 7)) == (b"abcd", 7)
    assert discard_first(listening, (b"", 0)) == (b"", 0)
    assert not is_readable(listening)


def test_hung_up(udp: Pair, listening: socket.socket) -> None:
    assert not is_hung_up(listening) and not is_hung_up(udp[0])
    with socket.create_connection(listening.getsockname()):
        assert not is_hung_up(listening)
    listening.shutdown(socket.SHUT_RDWR)
    assert is_hung_up(listening)
