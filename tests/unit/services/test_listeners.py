"""The daemon's listeners across reloads: kept, retried, dropped; a unix socket's file goes with it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastinetd.plan.endpoints import has_ipv6
from fastinetd.plan.model import Endpoint, SocketOptions
from fastinetd.services.listeners import Listeners, ListenRequest
from fastinetd.services.sockets import open_endpoint
from support.clients import free_port
from support.intruder import tries

NONE = SocketOptions()
V6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


class Alarm:
    """A timer that goes off when told to."""

    def __init__(self, seconds: float, callback: Callable[[], None] | None) -> None:
        self.seconds = seconds
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None


class Clockwork:
    """The loop's timers, as far as Listeners use them."""

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []

    def later(self, seconds: float, callback: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(seconds, callback))
        return self.alarms[-1]

    def pending(self) -> list[float]:
        return [alarm.seconds for alarm in self.alarms if alarm.callback is not None]

    def ring(self) -> None:
        """Let everything that is due at some time be due now."""
        due, self.alarms = self.alarms, []
        for alarm in due:
            if alarm.callback is not None:
                alarm.callback()


class Said:
    """Messages by level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[[str], None]:
        return lambda text: None if level == "debug" else self.lines.append((level, text))

    def take(self) -> list[tuple[str, str]]:
        lines, self.lines = self.lines, []
        return lines


class Kit:
    def __init__(self) -> None:
        self.loop = Clockwork()
        self.said = Said()
        self.opened_late = 0
        self.listeners = Listeners(self.loop, self.said)  # type: ignore[arg-type]
        self.listeners.opened_late = self._open_late

    def _open_late(self) -> None:
        self.opened_late += 1


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    made.listeners.close()
    assert made.loop.pending() == []


@pytest.fixture
def in_the_way() -> Iterator[socket.socket]:
    """Somebody else's listener."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other


def request(endpoint: Endpoint, options: SocketOptions = NONE) -> ListenRequest:
    return ListenRequest(endpoint, options, False, "web")


def tcp(port: int = 0, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(socket.AF_INET, socket.SOCK_STREAM, host, port)


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


class TestUnix:
    def unix(self, path: Path) -> Endpoint:
        return Endpoint(socket.AF_UNIX, socket.SOCK_STREAM, str(path))

    def test_other_permissions_while_it_is_open(self, kit: Kit, tmp_path: Path) -> None:
        """A reload may change owner and mode; queued clients stay. Another's file in its place is left alone."""
        path = tmp_path / "s"
        kit.listeners.want([request(self.unix(path), SocketOptions(mode=0o600))])
        (sock,) = kit.listeners.sockets_of(self.unix(path))
        assert path.stat().st_mode & 0o7777 == 0o600
        kit.listeners.want([request(self.unix(path), SocketOptions(mode=0o640))])
        assert path.stat().st_mode & 0o7777 == 0o640
        kit.listeners.want([request(self.unix(path))])
        assert path.stat().st_mode & 0o7777 == 0o666
        assert kit.listeners.sockets_of(self.unix(path)) == [sock]
        if os.geteuid() == 0:
            kit.listeners.want([request(self.unix(path), SocketOptions(owner=65534, group=65533))])
            assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)
            kit.listeners.want([request(self.unix(path))])
            assert (path.stat().st_uid, path.stat().st_gid) == (os.geteuid(), os.getegid())
        path.unlink()
        path.write_text("")
        path.chmod(0o604)
        kit.listeners.want([request(self.unix(path), SocketOptions(mode=0o600))])
        assert path.stat().st_mode & 0o7777 == 0o604
        path.unlink()
        kit.listeners.want([request(self.unix(path), SocketOptions(mode=0o640))])
        ((level, text),) = kit.said.take()
        assert (level, "cannot change the owner and mode" in text) == ("error", True)

    def test_its_file_goes_with_it(self, kit: Kit, tmp_path: Path) -> None:
        path = tmp_path / "s"
        kit.listeners.want([request(self.unix(path))])
        assert path.is_socket()
        kit.listeners.drop([self.unix(path)])
        assert not path.exists()

    def test_what_stands_there_instead_stays(self, kit: Kit, tmp_path: Path) -> None:
        """Somebody has put something else in its place: that is theirs."""
        path = tmp_path / "s"
        kit.listeners.want([request(self.unix(path))])
        path.rename(tmp_path / "moved")
        path.write_text("theirs")
        kit.listeners.drop([self.unix(path)])
        assert path.read_text() == "theirs"

    def test_a_path_in_use_is_not_called_a_port(self, kit: Kit, tmp_path: Path) -> None:
        path = tmp_path / "s"
        path.write_text("theirs")
        kit.listeners.want([request(self.unix(path))])
        ((_, text),) = kit.said.take()
        assert "EADDRINUSE" in text
        assert "another path" in text
        assert "another port" not in text

    def test_a_missing_folder_may_come_later(self, kit: Kit, tmp_path: Path) -> None:
        path = tmp_path / "later" / "s"
        kit.listeners.want([request(self.unix(path))])
        ((_, text),) = kit.said.take()
        assert "ENOENT" in text
        assert "mend the path and the permissions of its folder" in text
        path.parent.mkdir()
        kit.loop.ring()
        assert path.is_socket()
        assert kit.opened_late == 1
