"""What is first in a socket's queue: who sent it, a sign that tells it from the next, and how to take it off.

Theory. Servers read from the same socket, so nothing may be changed that they would notice, and what was first may be
gone a moment later. A datagram's sign is its beginning, its sender and the time the kernel gives it, because a client
may send the same again and again. That time is had in two ways. While no server runs SO_TIMESTAMPNS is set for one
look: servers shall not find it among what recvmsg(2) gives them. From then on the kernel keeps the time of what was
read last, by whomever, and an ioctl tells it: if a server has read in between, the sign is another datagram's, and
equals no sign of before, which is right, for a server has read. A stream's sign is the length of its queue, all that
can be had; of a unix socket only whether anybody is there.

Rules of this file: sockets are borrowed and blocking, so every call here says MSG_DONTWAIT or follows a readiness.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from fcntl import ioctl
from ipaddress import IPv6Address, ip_address

from fastinetd.system.strangers import Awake, close_shared_sockets

ACCEPT_WITHIN = 0.1
"""Seconds after which an accept that should not block is given up."""

PEEK = 2048  # bytes of a datagram that tell it from the next
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
SIOCGSTAMPNS = 0x8907  # asm-generic/sockios.h
TIMESPEC = struct.Struct("@ll")

Peer = tuple[bytes, int]
"""Address of 4 or 16 bytes (b"" when unknown) and port."""

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """A sign that stays the same while what is first in the queue stays there."""

    what: object
    stamp: Stamp | None = None  # None: not known

    def same(self, other: Head | None) -> bool:
        """Whether both may be of the same; without a stamp equal contents count as the same."""
        if other is None or self.what != other.what:
            return False
        return None in (self.stamp, other.stamp) or self.stamp == other.stamp


def head(sock: socket.socket, *, shared: bool) -> Head | None:
    """The sign of what is first; None for an empty queue. `shared`: servers may be reading at this moment."""
    try:
        if sock.type == socket.SOCK_DGRAM:
            if sock.family == socket.AF_UNIX:
                return _first_of_unix(sock)
            return _first_while_read(sock) if shared else _first_stamped(sock)
        if not readable(sock):
            return None
        if sock.family == socket.AF_UNIX:
            return Head(True)
        return Head(struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24))
    except OSError:
        return None


def _first_stamped(sock: socket.socket) -> Head:
    """The first datagram; one that has no time yet is given it by this look."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, True)
    try:
        space = socket.CMSG_SPACE(TIMESPEC.size)
        data, extra, _, sender = sock.recvmsg(PEEK, space, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, False)
    stamps = [TIMESPEC.unpack(value) for *_, value in extra if len(value) == TIMESPEC.size]
    return Head((data, sender), stamps[0] if stamps else None)


def _first_of_unix(sock: socket.socket) -> Head:
    """The first datagram of a unix socket, which has no time. It may have descriptors: a look takes a reference to
    them, which is the last one to be closed if a server reads it meanwhile."""
    with Awake():
        return Head(sock.recv(PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT))


def _first_while_read(sock: socket.socket) -> Head:
    """The first datagram while servers may read."""
    before = divmod(time.time_ns(), 10**9)
    data, sender = sock.recvfrom(PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    stamp: Stamp | None = None
    with suppress(OSError):
        stamp = TIMESPEC.unpack(ioctl(sock, SIOCGSTAMPNS, bytes(TIMESPEC.size)))
    # The kernel says `now` of a datagram that has no time: nothing to tell it by.
    return Head((data, sender), stamp if stamp is not None and stamp < before else None)


def readable(sock: socket.socket) -> bool:
    """Whether something is there at this moment."""
    return bool(select.select([sock], [], [], 0)[0])


def hung_up(sock: socket.socket) -> bool:
    """Whether a stream socket was shut down; a datagram socket goes on."""
    poll = select.poll()
    poll.register(sock, 0)
    return sock.type == socket.SOCK_STREAM and bool(poll.poll(0))


def first_sender(sock: socket.socket) -> Peer | None:
    """The sender of the first datagram, or None when there is none after all (a bad checksum)."""
    if sock.family == socket.AF_UNIX:
        return (b"", 0) if readable(sock) else None
    try:
        _, address = sock.recvfrom(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    return _packed(address)


def discard_first(sock: socket.socket, peer: Peer) -> Peer:
    """Take one datagram or client off the queue and leave it unserved; the client's address, `peer` if there is none.

    Nobody else may be reading.
    """
    with suppress(OSError):
        if sock.type == socket.SOCK_DGRAM:
            with Awake():  # a unix socket's may have come with descriptors
                sock.recv(1, socket.MSG_DONTWAIT)
        else:
            accepted, address = accept_now(sock)
            peer = _packed(address)
            close_shared_sockets([accepted])
    return peer


def accept_now(sock: socket.socket) -> tuple[socket.socket, object]:
    """accept() that does not block, whoever else accepts from the socket. Raises OSError.

    What a server left behind has the socket too, may take the client first, and may change the shared O_NONBLOCK back
    in between: a timer ends what that would make endless.
    """
    sock.setblocking(False)
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, ACCEPT_WITHIN, ACCEPT_WITHIN)
    try:
        return sock.accept()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def spoilt(sock: socket.socket) -> bool:
    """Whether a server has made its socket useless for the next one: shut it down, or connected it to one client."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    if any(events & (select.POLLHUP | select.POLLRDHUP) for _, events in poll.poll(0)):
        return True
    try:
        sock.getpeername()
    except OSError:  # not connected, as it should be
        return False
    return True


def clear_errors(sock: socket.socket) -> None:
    """Take what an earlier answer has met with, so that it wakes nobody any more."""
    with suppress(OSError):
        while True:
            sock.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _packed(address: object) -> Peer:
    """A socket address as the Board keeps it: IPv4 inside IPv6 as IPv4; b"" for anything but an Internet address."""
    if not isinstance(address, tuple):
        return b"", 0
    found = ip_address(str(address[0]).partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.packed, int(address[1])
