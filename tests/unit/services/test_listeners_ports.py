"""Listeners keep the ports of wait services: nobody else has them, whatever a server does to its socket."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastinetd.plan.model import Endpoint
from fastinetd.services.listeners import ListenRequest
from fastinetd.services.sockets import open_endpoint
from support.clients import free_port
from support.intruder import tries
from support.listening import NONE, V6, Kit, tcp


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    made.listeners.close()
    assert made.loop.pending() == []


@pytest.mark.usefixtures("root")
class TestKept:
    """The port of a wait service is nobody else's, whatever its server does to the socket."""

    @staticmethod
    def opened(kit: Kit, family: int, kind: int) -> tuple[socket.socket, Endpoint]:
        """A socket for servers, and what it is of."""
        endpoint = Endpoint(family, kind, port=free_port())
        kit.listeners.want([ListenRequest(endpoint, NONE, True, "web")])
        return kit.listeners.sockets_of(endpoint)[0], endpoint

    @pytest.mark.parametrize("family", [socket.AF_INET, pytest.param(socket.AF_INET6, marks=V6)])
    def test_a_stream_that_is_shut_down(self, kit: Kit, family: int) -> None:
        sock, endpoint = self.opened(kit, family, socket.SOCK_STREAM)
        with socket.create_connection(("127.0.0.1", endpoint.port), 10), sock.accept()[0]:
            for count, pause in enumerate((0.0, 0.1, 0.2)):
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    sock.setsockopt(socket.SOL_SOCKET, option, count % 2)
                sock.shutdown(socket.SHUT_RDWR)
                assert tries(endpoint.port) == ""
                kit.listeners.renew(sock)
                assert tries(endpoint.port) == ""
                (sock,) = kit.listeners.sockets_of(endpoint)
                with socket.create_connection(("127.0.0.1", endpoint.port), 10):
                    sock.accept()[0].close()  # it may be served later, but is open at once
                assert kit.loop.pending() == [pause]
        assert [level for level, _ in kit.said.take()] == ["warning"] * 3
        kit.loop.ring()
        assert kit.opened_late == 1

    def test_whoever_reads_that_it_is_opened_anew_can_connect(self, kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
        sock, endpoint = self.opened(kit, socket.AF_INET, socket.SOCK_STREAM)
        sock.shutdown(socket.SHUT_RDWR)
        told: list[str] = []

        def connect(text: str) -> None:
            told.append(text)
            socket.create_connection(("127.0.0.1", endpoint.port), 10).close()

        monkeypatch.setattr(kit.said, "warning", connect, raising=False)
        kit.listeners.renew(sock)
        assert [text.partition(": ")[0] for text in told] == ["service web"]

    @pytest.mark.parametrize(("seconds", "pauses"), [(59.9, [0.4, 0.8]), (60.1, [0.0, 0.1])])
    def test_how_long_spoilt_sockets_are_remembered(
        self, kit: Kit, seconds: float, pauses: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next one is served at once if its server spoils it a minute later, and the pauses are short again."""
        now = 1000.0
        monkeypatch.setattr("fastinetd.services.listeners.time.monotonic", lambda: now)
        _, endpoint = self.opened(kit, socket.AF_INET, socket.SOCK_STREAM)

        def renewed() -> float:
            kit.listeners.renew(kit.listeners.sockets_of(endpoint)[0])
            (pause,) = kit.loop.pending()
            return pause

        assert [renewed() for _ in range(3)] == [0.0, 0.1, 0.2]
        now += seconds
        assert [renewed() for _ in range(2)] == pauses

    def test_trouble_after_it_was_open_is_told_as_the_first(
        self, kit: Kit, in_the_way: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However long the pauses were before it could be opened."""
        endpoint = tcp(in_the_way.getsockname()[1])
        kit.listeners.want([ListenRequest(endpoint, NONE, True, "web")])
        kit.loop.ring()
        in_the_way.close()
        kit.loop.ring()
        (sock,) = kit.listeners.sockets_of(endpoint)
        kit.said.take()
        monkeypatch.setattr("fastinetd.services.listeners.open_endpoint", self.refuse)
        kit.listeners.renew(sock)
        (error, _), (warning, text) = kit.said.take()
        assert (error, warning) == ("error", "warning")
        assert text.endswith(", which has to be opened anew")
        assert kit.loop.pending() == [1.0]

    def test_nobody_gets_the_port_while_the_next_socket_is_opened(
        self, kit: Kit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The guard is there until then; the spoilt socket is closed, whoever still knows it."""
        sock, endpoint = self.opened(kit, socket.AF_INET, socket.SOCK_STREAM)
        sock.shutdown(socket.SHUT_RDWR)
        got = []

        def try_and_open(*arguments: Any, **more: Any) -> Any:
            got.append(tries(endpoint.port))
            return open_endpoint(*arguments, **more)

        monkeypatch.setattr("fastinetd.services.listeners.open_endpoint", try_and_open)
        kit.listeners.renew(sock)
        assert got == [""]
        assert sock.fileno() == -1

    @pytest.mark.parametrize("how", ["shut", "connected"])
    def test_a_datagram_socket(self, kit: Kit, how: str) -> None:
        sock, endpoint = self.opened(kit, socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.bind(("127.0.0.1", 0))
            if how == "connected":
                sock.connect(client.getsockname())
            kit.listeners.renew(sock)
            kit.listeners.renew(kit.listeners.sockets_of(endpoint)[0])
            assert tries(endpoint.port, socket.SOCK_DGRAM) == ""
            client.sendto(b"to the new one", ("127.0.0.1", endpoint.port))
            assert kit.listeners.sockets_of(endpoint)[0].recv(100) == b"to the new one"

    def test_who_has_got_in_is_told_of(self, kit: Kit) -> None:
        """A server that connects its socket leaves the port's other addresses to others: the next socket cannot be had,
        which is said, and the old one is not given up before it can."""
        sock, endpoint = self.opened(kit, socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(("127.0.0.1", 9))
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.2", endpoint.port))
            kit.listeners.renew(sock)
            assert kit.listeners.sockets_of(endpoint) == []
            assert any(level == "error" and "end the other program" in text for level, text in kit.said.take())
            assert sock.fileno() >= 0
        kit.loop.ring()
        assert kit.listeners.sockets_of(endpoint) != []
        assert sock.fileno() == -1

    @pytest.mark.parametrize(("first", "second"), [("127.0.0.1", ""), ("", "127.0.0.1")])
    def test_another_address_of_its_port(self, kit: Kit, first: str, second: str) -> None:
        """A reload opens it beside the socket and its guard, which go later."""
        port = free_port()
        old, new = tcp(port, first), tcp(port, second)
        kit.listeners.want([ListenRequest(old, NONE, True, "web")])
        assert kit.listeners.want([ListenRequest(new, NONE, True, "web")]) == {old}
        assert len([*kit.listeners.sockets_of(old), *kit.listeners.sockets_of(new)]) == 2
        assert kit.said.take() == []

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_another_address_of_a_port_that_only_a_guard_keeps(
        self, kit: Kit, kind: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server has spoilt the socket when there was no descriptor for another; then a reload changes the address.
        The new socket listens at once, beside the guard."""
        sock, old = self.opened(kit, socket.AF_INET, kind)
        with monkeypatch.context() as patch:
            patch.setattr("fastinetd.services.listeners.open_endpoint", self.refuse)
            kit.listeners.renew(sock)
        assert kit.listeners.sockets_of(old) == []
        kit.said.take()
        new = Endpoint(socket.AF_INET, kind, "127.0.0.1", old.port)
        assert kit.listeners.want([ListenRequest(new, NONE, True, "web")]) == {old}
        assert len(kit.listeners.sockets_of(new)) == 1
        assert tries(old.port, kind) == ""
        kit.listeners.drop([old])
        assert tries(old.port, kind) == ""
        assert kit.said.take() == []

    @staticmethod
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def test_guards_follow_the_configuration(self, kit: Kit) -> None:
        """A service whose servers are given the socket has a guard, and keeps it as long as the socket is open,
        for they may have it so long. None is left behind."""
        before = len(os.listdir("/proc/self/fd"))
        endpoint = tcp()
        for given, guards in ((False, 0), (True, 1), (False, 1), (False, 1), (True, 1)):
            kit.listeners.want([ListenRequest(endpoint, NONE, given, "web")])
            assert len(os.listdir("/proc/self/fd")) == before + 1 + guards
        kit.listeners.drop([endpoint])
        assert len(os.listdir("/proc/self/fd")) == before
