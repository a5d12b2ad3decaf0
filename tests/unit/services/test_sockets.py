"""Listening sockets: how they are opened, what is set on them, what a unix socket's file is."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastinetd.plan.endpoints import has_ipv6
from fastinetd.plan.model import Endpoint, SocketOptions
from fastinetd.services.sockets import open_endpoint
from fastinetd.system.descriptors import FIRST_KEPT_DESCRIPTOR, lift_descriptor, lift_socket
from support.clients import free_port
from support.lacking import need_localhost

NONE = SocketOptions()
STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
V6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def opened(
    kept: ExitStack, endpoint: Endpoint, options: SocketOptions = NONE, *, blocking: bool = False
) -> socket.socket:
    made, remarks = open_endpoint(endpoint, options, blocking=blocking)
    for each in made:
        kept.enter_context(each)
    assert remarks == []
    assert len(made) == 1
    return made[0]


@pytest.mark.parametrize("kind", [STREAM, DGRAM])
@pytest.mark.parametrize("blocking", [False, True])
def test_opened(kept: ExitStack, kind: int, blocking: bool) -> None:
    port = free_port()
    made = opened(kept, Endpoint(socket.AF_INET, kind, "127.0.0.1", port), blocking=blocking)
    assert made.fileno() >= FIRST_KEPT_DESCRIPTOR
    assert not made.get_inheritable()
    assert made.getblocking() is blocking
    assert os.get_blocking(made.fileno()) is blocking
    assert made.getsockname() == ("127.0.0.1", port)
    assert made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == (kind == STREAM)
    reuse = socket.SO_REUSEADDR if kind == socket.SOCK_STREAM else socket.SO_REUSEPORT
    assert made.getsockopt(socket.SOL_SOCKET, reuse) == 1


def test_the_queue_is_as_long_as_the_system_allows(kept: ExitStack) -> None:
    made = opened(kept, Endpoint(socket.AF_INET, STREAM, "127.0.0.1", free_port()))
    longest = int.from_bytes(made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[28:32], sys.byteorder)
    assert longest == int(Path("/proc/sys/net/core/somaxconn").read_text())


@V6
def test_both_families_of_an_interface(kept: ExitStack) -> None:
    port = free_port()
    made, remarks = open_endpoint(Endpoint(socket.AF_UNSPEC, STREAM, "lo", port, v6only=True), NONE, blocking=False)
    for each in made:
        kept.enter_context(each)
    assert remarks == []
    assert [each.family for each in made] == [socket.AF_INET, socket.AF_INET6]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=5).close()


@V6
def test_dual_stack(kept: ExitStack) -> None:
    port = free_port()
    made = opened(kept, Endpoint(socket.AF_INET6, STREAM, "", port, fallback=True))
    assert made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), 10).close()


@V6
@pytest.mark.parametrize("host", ["", "::", "lo"])
def test_a_socket_for_each_family(kept: ExitStack, host: str) -> None:
    port = free_port()
    endpoint = Endpoint(socket.AF_UNSPEC if host == "lo" else socket.AF_INET6, STREAM, host, port, apart=True)
    made, remarks = open_endpoint(endpoint, NONE, blocking=False)
    for each in made:
        kept.enter_context(each)
        each.settimeout(10)
    assert remarks == []
    assert [each.family for each in made] == [socket.AF_INET, socket.AF_INET6]
    for each, client in zip(made, ("127.0.0.1", "::1")):
        kept.enter_context(socket.create_connection((client, port), 10))
        accepted, address = each.accept()
        kept.enter_context(accepted)
        assert address[0] == client
    with pytest.raises(OSError, match="in use"):
        open_endpoint(endpoint, NONE, blocking=False)


@V6
def test_an_ipv4_address_inside_ipv6(kept: ExitStack) -> None:
    made = opened(kept, Endpoint(socket.AF_INET6, STREAM, "::ffff:127.0.0.1", 0, apart=True))
    assert (made.family, made.getsockname()[0]) == (socket.AF_INET, "127.0.0.1")


@V6
def test_both_families_at_one_port(kept: ExitStack) -> None:
    port = free_port()
    opened(kept, Endpoint(socket.AF_INET, STREAM, "", port))
    made = opened(kept, Endpoint(socket.AF_INET6, STREAM, "", port, v6only=True))
    assert made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


def test_ipv4_where_there_is_no_ipv6(kept: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int = -1, *arguments: int, **more: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *arguments, **more)

    monkeypatch.setattr(socket, "socket", without)
    for apart in (False, True):
        made = opened(kept, Endpoint(socket.AF_INET6, STREAM, "", 0, fallback=True, apart=apart))
        assert made.family == socket.AF_INET
    assert not has_ipv6()
    with pytest.raises(OSError, match="not supported"):
        open_endpoint(Endpoint(socket.AF_INET6, STREAM, "", 0, v6only=True), NONE, blocking=False)


def test_the_family_of_the_address(kept: ExitStack) -> None:
    made = opened(kept, Endpoint(socket.AF_UNSPEC, STREAM, "127.0.0.1", 0))
    assert made.family == socket.AF_INET


def test_by_host_name(kept: ExitStack) -> None:
    need_localhost()
    made, _ = open_endpoint(Endpoint(socket.AF_INET, STREAM, "localhost", 0), NONE, blocking=False)
    with ExitStack() as stack:
        names = {stack.enter_context(each).getsockname()[0] for each in made}
    assert names == {"127.0.0.1"}


def test_by_interface(kept: ExitStack) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may bind to an interface")
    made = opened(kept, Endpoint(socket.AF_INET, STREAM, "lo", 0))
    name = made.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    assert name.rstrip(b"\0") == b"lo"


def test_unknown_host() -> None:
    with pytest.raises(OSError, match="no-such-host") as failed:
        open_endpoint(Endpoint(socket.AF_UNSPEC, STREAM, "no-such-host.invalid", 1), NONE, blocking=False)
    assert failed.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "192.0.2.200"), (socket.AF_INET6, "2001:db8::200")])
def test_an_address_this_machine_has_not_yet(family: int, host: str) -> None:
    """It is bound all the same (IP_FREEBIND), with a remark."""
    if family == socket.AF_INET6 and not has_ipv6():
        pytest.skip("no IPv6 here")
    (made,), (remark,) = open_endpoint(Endpoint(family, STREAM, host, 0), NONE, blocking=False)
    with made:
        assert made.getsockname()[0] == host
    assert remark.startswith(f"{host} is not an address of this machine yet")


def test_taken(kept: ExitStack) -> None:
    port = free_port()
    endpoint = Endpoint(socket.AF_INET, STREAM, "127.0.0.1", port)
    opened(kept, endpoint)
    before = {*os.listdir("/proc/self/fd")}
    with pytest.raises(OSError, match="in use"):
        open_endpoint(endpoint, NONE, blocking=False)
    assert {*os.listdir("/proc/self/fd")} == before


def test_a_datagram_port_that_another_daemon_has_is_told_of(kept: ExitStack) -> None:
    """A restarted daemon serves beside the last servers of the one before; but two daemons never share in silence."""
    endpoint = Endpoint(socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", free_port())
    other = opened(kept, endpoint)
    for beside, alone, told in (((), True, 1), ([other], True, 0), ((), False, 0)):
        (made,), remarks = open_endpoint(endpoint, NONE, blocking=True, beside=beside, alone=alone)
        assert made.getsockname() == other.getsockname()
        made.close()
        assert sum("another process of this user has port" in remark for remark in remarks) == told


def test_options(kept: ExitStack) -> None:
    options = SocketOptions(nodelay=True, keepalive=True, receive_buffer=50_000, send_buffer=60_000)
    made = opened(kept, Endpoint(socket.AF_INET, STREAM, "127.0.0.1", 0), options)
    client = kept.enter_context(socket.create_connection(made.getsockname(), 10))
    made.setblocking(True)
    accepted = kept.enter_context(made.accept()[0])
    assert client
    for each in (made, accepted):
        assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 100_000  # the kernel doubles it
        assert each.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 120_000


class TestUnix:
    def test_file(self, kept: ExitStack, tmp_path: Path) -> None:
        path = tmp_path / "s"
        before = os.umask(0o077)
        try:
            opened(kept, Endpoint(socket.AF_UNIX, STREAM, str(path)))
            assert os.umask(0o077) == 0o077
        finally:
            os.umask(before)
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o666

    def test_mode_and_owner(self, kept: ExitStack, tmp_path: Path) -> None:
        path = tmp_path / "s"
        root = os.geteuid() == 0
        options = SocketOptions(mode=0o640, owner=1234 if root else None, group=2345 if root else None)
        opened(kept, Endpoint(socket.AF_UNIX, DGRAM, str(path)), options)
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o640
        if root:
            assert (status.st_uid, status.st_gid) == (1234, 2345)

    @pytest.mark.parametrize("kind", [STREAM, DGRAM])
    def test_what_a_dead_process_left_is_replaced(self, kept: ExitStack, tmp_path: Path, kind: int) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX, kind) as left:
            left.bind(str(path))
        opened(kept, Endpoint(socket.AF_UNIX, kind, str(path)))

    def test_what_somebody_listens_on_stays(self, kept: ExitStack, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            with pytest.raises(OSError, match="in use"):
                open_endpoint(Endpoint(socket.AF_UNIX, STREAM, str(path)), NONE, blocking=False)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))

    def test_other_files_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        path.write_text("precious")
        with pytest.raises(OSError, match="in use"):
            open_endpoint(Endpoint(socket.AF_UNIX, STREAM, str(path)), NONE, blocking=False)
        assert path.read_text() == "precious"


def test_lift() -> None:
    low = os.dup(0)
    high = lift_descriptor(low)
    assert high >= FIRST_KEPT_DESCRIPTOR > low
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(low)
    assert lift_descriptor(high) == high
    assert not os.get_inheritable(high)
    os.close(high)


def test_lifted() -> None:
    made = lift_socket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with made:
        assert made.fileno() >= FIRST_KEPT_DESCRIPTOR
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_DGRAM)


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (Endpoint(socket.AF_INET, STREAM, "127.0.0.1", 80), "tcp 127.0.0.1:80"),
        (Endpoint(socket.AF_INET6, STREAM, "::1", 80), "tcp [::1]:80"),
        (Endpoint(socket.AF_INET6, DGRAM, "", 53), "udp *:53"),
        (Endpoint(socket.AF_UNIX, STREAM, "/run/x"), "unix /run/x"),
    ],
)
def test_names(endpoint: Endpoint, text: str) -> None:
    assert str(endpoint) == text


@pytest.mark.parametrize("host", ["a" * 64, "a..b"])
def test_a_name_that_no_host_can_have(host: str) -> None:
    with pytest.raises(OSError, match="no host can have"):
        open_endpoint(Endpoint(socket.AF_INET, socket.SOCK_STREAM, host, 1), SocketOptions(), blocking=False)
