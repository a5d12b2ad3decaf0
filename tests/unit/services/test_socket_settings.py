"""Whatever a server leaves on a socket, the next one finds it as it was; what cannot be set back is said."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fastinetd.services.socket_settings import OPTIONS, restore_settings, settings_of
from support.core import fork, reap
from support.intruder import tries

SOL, IP, IPV6, TCP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP
SO_ATTACH_FILTER, SO_LOCK_FILTER, SO_PEEK_OFF, SO_BINDTOIFINDEX, SO_BUF_LOCK = 26, 44, 42, 62, 72
SO_ATTACH_REUSEPORT_CBPF = 51
SO_RCVBUFFORCE = 33
IPV6_DONTFRAG = 62
STICKS_TO_USERS = set() if os.geteuid() == 0 else {(SOL, socket.SO_BINDTODEVICE), (SOL, SO_BINDTOIFINDEX)}
"""Every user may bind a socket to a device, by name or number; only CAP_NET_RAW lets it go."""
KINDS = {
    "udp": (socket.AF_INET, socket.SOCK_DGRAM), "udp6": (socket.AF_INET6, socket.SOCK_DGRAM),
    "tcp": (socket.AF_INET, socket.SOCK_STREAM), "tcp6": (socket.AF_INET6, socket.SOCK_STREAM),
    "unix": (socket.AF_UNIX, socket.SOCK_DGRAM), "unix stream": (socket.AF_UNIX, socket.SOCK_STREAM),
}  # fmt: skip


def attach(sock: socket.socket, option: int, number: int) -> None:
    """A program that says a number: BPF_RET | BPF_K."""
    code = bytearray(struct.pack("HBBI", 6, 0, 0, number))
    buffer = (ctypes.c_char * len(code)).from_buffer(code)
    sock.setsockopt(SOL, option, struct.pack("HP", 1, ctypes.addressof(buffer)))


def drop_all(sock: socket.socket) -> None:
    """A filter that lets nothing in."""
    attach(sock, SO_ATTACH_FILTER, 0)


def owned(sock: socket.socket) -> None:
    fcntl.fcntl(sock, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sock, fcntl.F_SETSIG, 10)
    fcntl.fcntl(sock, fcntl.F_SETFL, fcntl.fcntl(sock, fcntl.F_GETFL) | os.O_ASYNC)


@pytest.fixture(params=KINDS)
def sock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    family, kind = KINDS[request.param]
    try:
        made = socket.socket(family, kind)
    except OSError as missing:
        pytest.skip(f"no {request.param} here: {missing}")
    with made:
        made.bind(str(tmp_path / "s") if family == socket.AF_UNIX else ("", 0))
        if kind == socket.SOCK_STREAM:
            made.listen()
        yield made


def test_every_option(sock: socket.socket) -> None:
    """Each that can be changed at all is changed, alone and with all others, and set back."""
    own = settings_of(sock)
    assert len(own) > 25
    changed = set()
    for option in OPTIONS:
        for number in (1, 0, 2, 2000):
            with suppress(OSError):
                sock.setsockopt(*option, number)
        for value in (struct.pack("ii", 1, 7), struct.pack("qq", 1, 5), b"lo", b"reno"):
            with suppress(OSError):
                sock.setsockopt(*option, value)
        changed |= {one for one, value in settings_of(sock).items() if own[one] != value}
    assert len(changed) > 10
    sticky = changed & {(SOL, SO_LOCK_FILTER), *STICKS_TO_USERS}
    shared = sock.type == socket.SOCK_DGRAM and sock.family != socket.AF_UNIX and (SOL, socket.SO_REUSEADDR) in changed
    assert restore_settings(sock, own) is not (shared or bool(sticky))
    left = {one for one, value in settings_of(sock).items() if own[one] != value}
    assert left <= {*sticky, (TCP, 10), (TCP, 31)}


MEASURES = {(SOL, 55), (SOL, 77), (TCP, 2), (TCP, 11), (TCP, 24)}
"""What only tells how a socket is doing: memory, the namespace's cookie, the largest segment, TCP_INFO, the time."""

FOR_GOOD = {(SOL, SO_LOCK_FILTER), (TCP, 10), (TCP, 31), (TCP, 33)}
"""Beside the lock, which is told, what no next client would feel: window clamp, ULP, a key of TCP fast open."""


def test_every_option_there_is(sock: socket.socket) -> None:
    """Known here or not: what can be read of a socket is as it was after each change that this kernel allows."""
    own = settings_of(sock)
    every = tuple((level, number) for level in (SOL, IP, IPV6, TCP, 17) for number in range(110))
    options = tuple(each for each in every if each not in MEASURES | FOR_GOOD | STICKS_TO_USERS)
    before = settings_of(sock, options)
    for option in options:
        taken = 0
        for value in (1, 0, 2, 255, 2000, struct.pack("ii", 1, 7), struct.pack("qq", 1, 5), b"lo", b"reno"):
            with suppress(OSError):
                sock.setsockopt(*option, value)
                taken += 1
        if not taken:
            continue
        restored = restore_settings(sock, own)
        assert settings_of(sock, options) == before, option
        assert restored or option == (SOL, socket.SO_REUSEADDR)


LEFT: dict[str, Callable[[socket.socket], None]] = {
    "a filter": drop_all,
    "an offset for peeking": lambda sock: sock.setsockopt(SOL, SO_PEEK_OFF, 1000),
    "a tiny buffer": lambda sock: sock.setsockopt(SOL, socket.SO_RCVBUF, 1),
    "a time limit": lambda sock: sock.setsockopt(SOL, socket.SO_RCVTIMEO, struct.pack("ll", 0, 1)),
    "a low-water mark": lambda sock: sock.setsockopt(SOL, socket.SO_RCVLOWAT, 60000),
    "a device": lambda sock: sock.setsockopt(SOL, socket.SO_BINDTODEVICE, b"lo"),
    "a device that is not there": lambda sock: sock.setsockopt(SOL, SO_BINDTOIFINDEX, 2**30),
    "a smallest TTL": lambda sock: sock.setsockopt(IP, 21, 255),
    "encapsulation": lambda sock: sock.setsockopt(17, 100, 2),
    "new time stamps": lambda sock: sock.setsockopt(SOL, 63, 1),
    "time stamps": lambda sock: sock.setsockopt(SOL, 29, 1),
    "signals": owned,
}


@pytest.mark.parametrize("what", LEFT)
def test_a_datagram_comes_through(what: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, socket.socket(type=socket.SOCK_DGRAM) as client:
        sock.bind(("127.0.0.1", 0))
        own = settings_of(sock)
        LEFT[what](sock)
        if what.startswith("a device") and STICKS_TO_USERS:
            assert not restore_settings(sock, own)
            return
        assert restore_settings(sock, own)
        assert settings_of(sock) == own
        assert fcntl.fcntl(sock, fcntl.F_GETOWN) == fcntl.fcntl(sock, fcntl.F_GETSIG) == 0
        assert not fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_ASYNC
        client.sendto(b"x" * 1000, sock.getsockname())
        assert len(sock.recv(2000, socket.MSG_DONTWAIT | socket.MSG_PEEK)) == 1000


def test_a_locked_filter_is_there_for_good() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        own = settings_of(sock)
        drop_all(sock)
        sock.setsockopt(SOL, SO_LOCK_FILTER, 1)
        assert not restore_settings(sock, own)


@pytest.mark.usefixtures("root")
def test_who_shares_a_datagram_port_has_let_others_in() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        own = settings_of(sock)
        assert tries(sock.getsockname()[1], socket.SOCK_DGRAM) == ""
        sock.setsockopt(SOL, socket.SO_REUSEADDR, 1)
        assert tries(sock.getsockname()[1], socket.SOCK_DGRAM) != ""
        assert not restore_settings(sock, own)
        assert restore_settings(sock, own)


def test_who_is_served_is_not_the_choice_of_a_program_that_was_left() -> None:
    """It chooses among the sockets of a port: the one that is to be opened, too."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock, socket.socket(type=socket.SOCK_DGRAM) as other:
        for each in (sock, other):
            each.setsockopt(SOL, socket.SO_REUSEPORT, 1)
            each.bind(("127.0.0.1", sock.getsockname()[1]))
        own = settings_of(sock)
        attach(sock, SO_ATTACH_REUSEPORT_CBPF, 0)
        assert restore_settings(sock, own)
        for _ in range(100):
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.sendto(b"x", sock.getsockname())
        assert len(select.select([sock, other], [], [], 10)[0]) == 2


@pytest.mark.usefixtures("root")
def test_keys_keep_clients_out() -> None:
    """Nobody without the key is answered: another socket is needed."""
    key = struct.pack("=HH4s120x", socket.AF_INET, 0, socket.inet_aton("127.0.0.1"))
    key += struct.pack("=BBHi80s", 0, 0, 6, 0, b"secret")
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_server(("127.0.0.1", 0)) as other:
        own = settings_of(sock)
        assert restore_settings(sock, own)
        for each in (other, sock):
            try:
                each.setsockopt(TCP, 14, key)  # TCP_MD5SIG
            except OSError as missing:
                pytest.skip(f"no keys here: {missing}")
            assert restore_settings(sock, own) is (each is other)


def test_what_cannot_listen_is_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as sock:
        sock.connect(other.getsockname())
        assert not restore_settings(sock, settings_of(sock))


def test_the_queue_is_as_long_as_before() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        own = settings_of(sock)
        sock.listen(1)
        assert restore_settings(sock, own)
        longest = struct.unpack_from("=I", sock.getsockopt(TCP, socket.TCP_INFO, 104), 28)[0]
        assert longest == int(Path("/proc/sys/net/core/somaxconn").read_text())


@pytest.mark.usefixtures("root")
def test_a_large_buffer_is_no_lock() -> None:
    """To ask for much at once makes the buffer larger; it grows and shrinks by itself afterwards as it did before."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        own = settings_of(sock)
        sock.setsockopt(SOL, socket.SO_RCVLOWAT, 1 << 20)
        assert sock.getsockopt(SOL, socket.SO_RCVBUF) > struct.unpack("=i", own[SOL, socket.SO_RCVBUF])[0]
        assert restore_settings(sock, own)
        assert settings_of(sock) == own
        assert not sock.getsockopt(SOL, SO_BUF_LOCK)


def test_a_buffer_without_the_right_to_force_its_size() -> None:
    """A daemon without CAP_NET_ADMIN (in a container, say) sets it back as any user can."""

    def main() -> None:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            own = settings_of(sock)
            with pytest.raises(PermissionError):
                sock.setsockopt(SOL, SO_RCVBUFFORCE, 1000)
            for size in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(SOL, size, 1)
            assert settings_of(sock) != own
            assert restore_settings(sock, own)
            assert settings_of(sock) == own

    assert reap(fork(main)) == 0


def elsewhere() -> bytes:
    """IPV6_PKTINFO of an interface that does not lead to the loopback."""
    others = [index for index, name in socket.if_nameindex() if name != "lo"]
    return struct.pack("=16si", b"", others[0]) if others else pytest.skip("no second interface here")


@pytest.mark.parametrize(("number", "value", "trouble"), [
    (24, lambda: struct.pack("=i", 1280), "too long"),  # IPV6_MTU
    (50, elsewhere, "unreachable|not available|Invalid"),
])  # fmt: skip
def test_answers_get_through_as_before(number: int, value: Callable[[], bytes], trouble: str) -> None:
    """A small path MTU, and an interface, are not left to the next server, which could not send."""
    try:
        sock, client = (socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2))
        client.bind(("::1", 0))
    except OSError as missing:
        pytest.skip(f"no IPv6 here: {missing}")
    with sock, client:
        own = settings_of(sock)
        sock.setsockopt(IPV6, number, value())
        sock.setsockopt(IPV6, IPV6_DONTFRAG, 1)
        with pytest.raises(OSError, match=trouble):
            sock.sendto(b"x" * 2000, client.getsockname())
        assert restore_settings(sock, own)
        sock.setsockopt(IPV6, IPV6_DONTFRAG, 1)
        assert sock.sendto(b"x" * 2000, client.getsockname()) == 2000


def test_the_largest_segment_is_nobodys_wish_again() -> None:
    """Of what is accepted: the next server's clients would be sent tiny segments."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        own = settings_of(sock)
        sock.setsockopt(TCP, socket.TCP_MAXSEG, 100)
        assert restore_settings(sock, own)
        with socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
            assert accepted.getsockopt(TCP, socket.TCP_MAXSEG) > 1000


def test_descriptors_come_through() -> None:
    """SO_PASSRIGHTS, from Linux 6.16 on."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        own = settings_of(here)
        with suppress(OSError):
            here.setsockopt(SOL, 83, 0)
        assert restore_settings(here, own)
        socket.send_fds(there, [b"x"], [0])
        _, (descriptor,), _, _ = socket.recv_fds(here, 1, 1)
        os.close(descriptor)
