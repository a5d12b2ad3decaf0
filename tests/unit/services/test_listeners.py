"""The daemon's listeners across reloads: kept, retried, dropped; a unix socket's file goes with it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from fastinetd.plan.model import SocketOptions
from fastinetd.services.listeners import ListenRequest
from support.clients import free_port
from support.listening import NONE, Kit, request, tcp


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    made.listeners.close()
    assert made.loop.pending() == []


def test_opened_and_kept(kit: Kit) -> None:
    endpoint = tcp()
    assert kit.listeners.want([request(endpoint)]) == set()
    (first,) = kit.listeners.sockets_of(endpoint)
    assert kit.listeners.want([request(endpoint)]) == set()
    assert kit.listeners.sockets_of(endpoint) == [first]
    assert kit.said.take() == []
    assert kit.opened_late == 0


def test_queued_clients_survive_a_reload(kit: Kit) -> None:
    endpoint = tcp()
    kit.listeners.want([request(endpoint)])
    (sock,) = kit.listeners.sockets_of(endpoint)
    with socket.create_connection(sock.getsockname(), 10) as client:
        kit.listeners.want([request(endpoint, SocketOptions(nodelay=True))])
        accepted, address = sock.accept()
        accepted.close()
        assert address == client.getsockname()
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert kit.said.take() == []


def test_no_longer_wanted(kit: Kit) -> None:
    """Told at once, closed when the caller says so."""
    one, two = tcp(), tcp(host="127.0.0.2")
    kit.listeners.want([request(one), request(two)])
    (sock,) = kit.listeners.sockets_of(one)
    assert kit.listeners.want([request(two)]) == {one}
    assert sock.fileno() >= 0
    kit.listeners.drop([one])
    assert sock.fileno() == -1
    assert kit.listeners.sockets_of(one) == []
    assert len(kit.listeners.sockets_of(two)) == 1


def test_nobody_is_left_waiting_at_a_port_that_is_closed(kit: Kit) -> None:
    """Roles that are still leaving have the socket, too."""
    endpoint = tcp()
    kit.listeners.want([request(endpoint)])
    (sock,) = kit.listeners.sockets_of(endpoint)
    address = sock.getsockname()
    with sock.dup():
        kit.listeners.drop([endpoint])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 10)


def test_a_server_keeps_the_socket_it_was_given(kit: Kit) -> None:
    """It may go on after its service is removed."""
    endpoint = tcp()
    kit.listeners.want([ListenRequest(endpoint, NONE, True, "web")])
    (sock,) = kit.listeners.sockets_of(endpoint)
    with sock.dup() as theirs:
        kit.listeners.drop([endpoint])
        with socket.create_connection(theirs.getsockname(), 10):
            theirs.accept()[0].close()


def test_acceptors_do_not_wait_in_accept(kit: Kit) -> None:
    """The socket is the one that servers were given, until a reload."""
    endpoint = tcp()
    kit.listeners.want([ListenRequest(endpoint, NONE, True, "web")])
    (sock,) = kit.listeners.sockets_of(endpoint)
    assert sock.getblocking()
    kit.listeners.want([request(endpoint)])
    assert kit.listeners.sockets_of(endpoint) == [sock]
    with pytest.raises(BlockingIOError):
        sock.accept()


def test_why_it_does_not_listen(kit: Kit, in_the_way: socket.socket) -> None:
    """What /-/ready says; whoever tells of it is told of the change."""
    changes = []
    endpoint = tcp(in_the_way.getsockname()[1])
    kit.listeners.changed = lambda: changes.append(kit.listeners.errno_of(endpoint))
    kit.listeners.want([request(endpoint)])
    assert changes == [errno.EADDRINUSE]
    in_the_way.close()
    kit.listeners.want([request(endpoint)])
    assert kit.listeners.errno_of(endpoint) == 0


@pytest.mark.parametrize(("number", "remedy"), [
    (errno.EMFILE, "ulimit -n"), (errno.EACCES, "CAP_NET_BIND_SERVICE"), (errno.EADDRINUSE, "choose another port"),
    (errno.EADDRNOTAVAIL, "mend the name"), (errno.ENOBUFS, "mend what the system call complains about"),
])  # fmt: skip
def test_remedies(kit: Kit, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fastinetd.services.listeners.open_endpoint", refuse)
    kit.listeners.want([request(tcp(80))])
    ((_, text),) = kit.said.take()
    assert errno.errorcode[number] in text
    assert remedy in text


def test_what_leaves_another_port_is_not_in_the_way(kit: Kit, in_the_way: socket.socket) -> None:
    """A port that somebody else has is told at once, whatever else the reload removes."""
    one, two = tcp(), tcp(in_the_way.getsockname()[1])
    kit.listeners.want([request(one)])
    assert kit.listeners.want([request(two)]) == {one}
    assert [level for level, _ in kit.said.take()] == ["error"]


def test_a_resolver_that_hangs(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a name is looked up the supervisor does nothing else: the pause is nine times as long, every time."""
    now = 1000.0

    def hang(*_: object) -> None:
        nonlocal now
        now += 10
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr("fastinetd.services.listeners.time.monotonic", lambda: now)
    monkeypatch.setattr("fastinetd.services.sockets.socket.getaddrinfo", hang)
    kit.listeners.want([request(tcp(80, "host.example"))])
    assert kit.loop.pending() == [90.0]
    kit.loop.ring()
    assert kit.loop.pending() == [90.0]
    kit.listeners.drop([tcp(80, "host.example")])


@pytest.mark.parametrize(("first", "second"), [("127.0.0.1", ""), ("", "127.0.0.1")])
def test_one_address_and_all_of_them(kit: Kit, first: str, second: str) -> None:
    """Each is in the other's way; both are open until the first is dropped, so the port is never without a listener."""
    port = free_port()
    old, new = tcp(port, first), tcp(port, second)
    kit.listeners.want([request(old)])
    assert kit.listeners.want([request(new)]) == {old}
    assert len([*kit.listeners.sockets_of(old), *kit.listeners.sockets_of(new)]) == 2
    with socket.create_connection(("127.0.0.1", port), 10):
        pass
    kit.listeners.drop([old])
    with socket.create_connection(("127.0.0.1", port), 10):
        kit.listeners.sockets_of(new)[0].accept()[0].close()
    assert kit.said.take() == []


def test_tried_again_until_it_opens(kit: Kit, in_the_way: socket.socket) -> None:
    """One error, growing pauses up to half a minute, one notice."""
    endpoint = tcp(in_the_way.getsockname()[1])
    kit.listeners.want([request(endpoint)])
    assert kit.listeners.sockets_of(endpoint) == []
    ((level, text),) = kit.said.take()
    assert level == "error"
    assert ": Address already in use (errno = EADDRINUSE); " in text
    assert "service web" in text
    assert f":{endpoint.port}" in text
    assert "; " in text
    pauses = []
    for _ in range(7):
        pauses += kit.loop.pending()
        kit.loop.ring()
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert kit.said.take() == []
    in_the_way.close()
    kit.loop.ring()
    assert len(kit.listeners.sockets_of(endpoint)) == 1
    assert [level for level, _ in kit.said.take()] == ["notice"]
    assert kit.opened_late == 1
    assert kit.loop.pending() == []


def test_what_a_reload_closes_is_not_told_to_be_in_the_way(kit: Kit, in_the_way: socket.socket) -> None:
    """The first attempt beside it is quiet. What fails after that is told as if it were the first."""
    port = in_the_way.getsockname()[1]
    old, new = tcp(port, "127.0.0.2"), tcp(port)
    kit.listeners.want([request(old)])
    assert kit.listeners.want([request(new)]) == {old}
    assert kit.said.take() == []
    assert kit.loop.pending() == [1.0]
    kit.listeners.drop([old])
    pauses = []
    for _ in range(3):
        kit.loop.ring()
        pauses += kit.loop.pending()
    assert pauses == [1.0, 2.0, 4.0]
    ((level, text),) = kit.said.take()
    assert level == "error"
    assert "EADDRINUSE" in text


def test_a_reload_is_another_attempt(kit: Kit, in_the_way: socket.socket) -> None:
    endpoint = tcp(in_the_way.getsockname()[1])
    kit.listeners.want([request(endpoint)])
    in_the_way.close()
    kit.listeners.want([request(endpoint)])
    assert len(kit.listeners.sockets_of(endpoint)) == 1
    assert kit.loop.pending() == []


def test_try_again(kit: Kit, in_the_way: socket.socket) -> None:
    endpoint = tcp(in_the_way.getsockname()[1])
    kit.listeners.want([request(endpoint)])
    kit.listeners.retry_now()
    assert kit.opened_late == 0
    assert len(kit.loop.pending()) == 1
    kit.said.take()
    in_the_way.close()
    kit.listeners.retry_now()
    assert kit.opened_late == 1
    assert ["listening on" in text for _, text in kit.said.take()] == [True]
    assert kit.loop.pending() == []


def test_an_attempt_is_forgotten_with_its_endpoint(kit: Kit, in_the_way: socket.socket) -> None:
    endpoint = tcp(in_the_way.getsockname()[1])
    kit.listeners.want([request(endpoint)])
    kit.listeners.drop(kit.listeners.want([]))
    assert kit.loop.pending() == []


def test_an_address_that_is_not_there_yet(kit: Kit) -> None:
    endpoint = tcp(host="192.0.2.200")
    kit.listeners.want([request(endpoint)])
    assert len(kit.listeners.sockets_of(endpoint)) == 1
    ((level, text),) = kit.said.take()
    assert level == "warning"
    assert "192.0.2.200" in text


def test_nothing_is_left_open(in_the_way: socket.socket) -> None:
    before = {*os.listdir("/proc/self/fd")}
    kit = Kit()
    kit.listeners.want([request(tcp()), request(tcp(in_the_way.getsockname()[1]))])
    kit.listeners.close()
    assert {*os.listdir("/proc/self/fd")} == before
