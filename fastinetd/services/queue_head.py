"""What is first in a socket's queue: its sender, a sign by which it differs from the next, and how to take it off.

Theory. Servers read from the same socket, so nothing may be changed that they would notice, and what was first may be
gone a moment later. A datagram's sign is its beginning, its sender and the time the kernel gives it, because a client
may send the same again and again. The supervisor learns that time in two ways. While no server runs it sets
SO_TIMESTAMPNS for one look, and takes the time from what recvmsg(2) returns; servers shall not find such times among
their messages. From then on the kernel keeps the time of the datagram that any process has read last, and an ioctl
returns it: if a server has read in between, the sign is another datagram's and equals no earlier sign, which is right,
for a server has read. A stream's sign is the length of its queue, as the kernel shows no more; a unix stream's is
whether any client is in the queue.

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

PEEK_BYTES = 2048  # bytes of a datagram that tell it from the next
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
SIOCGSTAMPNS = 0x8907  # asm-generic/sockios.h
TIMESPEC = struct.Struct("@ll")

Peer = tuple[bytes, int]
"""A sender's or client's address of 4 or 16 bytes (b"" when it is not known), and port."""

Stamp = tuple[int, ...]
"""Seconds and nanoseconds at which the kernel got a datagram."""


@dataclass(frozen=True, slots=True)
class Head:
    """A sign that stays the same while what is first in the queue stays there."""

    what: object  # the beginning and the sender of a datagram; the length of a stream's queue
    stamp: Stamp | None = None  # of a datagram; None: not known

    def same(self, other: Head | None) -> bool:
        """Whether both may be signs of one datagram or queue; where a stamp is not known, equal contents are enough."""
        if other is None or self.what != other.what:
            return False
        return None in (self.stamp, other.stamp) or self.stamp == other.stamp


def head_of_queue(sock: socket.socket, *, shared: bool) -> Head | None:
    """The sign of what is first in a socket's queue; None when the queue is empty. `shared`: servers may be reading at
    this moment."""
    try:
        if sock.type == socket.SOCK_DGRAM:
            if sock.family == socket.AF_UNIX:
                return _first_of_unix(sock)
            return _first_while_read(sock) if shared else _first_stamped(sock)
        if not is_readable(sock):
            return None
        if sock.family == socket.AF_UNIX:
            return Head(True)
        return Head(struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24))
    except OSError:
        return None


def _first_stamped(sock: socket.socket) -> Head:
    """The sign of the first datagram while no server runs. If the datagram has no time yet, the kernel gives it one for
    this look."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, True)
    try:
        space = socket.CMSG_SPACE(TIMESPEC.size)
        data, extra, _, sender = sock.recvmsg(PEEK_BYTES, space, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, False)
    stamps = [TIMESPEC.unpack(value) for *_, value in extra if len(value) == TIMESPEC.size]
    return Head((data, sender), stamps[0] if stamps else None)


def _first_of_unix(sock: socket.socket) -> Head:
    """The sign of a unix socket's first datagram, which has no time. The datagram may come with descriptors: to look at
    it takes a reference to them, and closes them if a server reads the datagram meanwhile."""
    with Awake():
        return Head(sock.recv(PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT))


def _first_while_read(sock: socket.socket) -> Head:
    """The sign of the first datagram while servers may read."""
    before = divmod(time.time_ns(), 10**9)
    data, sender = sock.recvfrom(PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    stamp: Stamp | None = None
    with suppress(OSError):
        stamp = TIMESPEC.unpack(ioctl(sock, SIOCGSTAMPNS, bytes(TIMESPEC.size)))
    # For a datagram without a time the kernel returns the present one, which is no sign of anything.
    return Head((data, sender), stamp if stamp is not None and stamp < before else None)


def is_readable(sock: socket.socket) -> bool:
    """Whether a datagram or client is in a socket's queue at this moment."""
    return bool(select.select([sock], [], [], 0)[0])


def is_hung_up(sock: socket.socket) -> bool:
    """Whether a stream socket was shut down. A datagram socket that was goes on."""
    poll = select.poll()
    poll.register(sock, 0)
    return sock.type == socket.SOCK_STREAM and bool(poll.poll(0))


def first_sender(sock: socket.socket) -> Peer | None:
    """The sender of the first datagram; None when there is no datagram after all (one with a bad checksum woke the
    supervisor)."""
    if sock.family == socket.AF_UNIX:
        return (b"", 0) if is_readable(sock) else None
    try:
        _, address = sock.recvfrom(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:  # an empty queue; or an error of an earlier answer, where a server has asked for them (IP_RECVERR)
        return None
    return _packed_address(address)


def discard_first(sock: socket.socket, peer: Peer) -> Peer:
    """Take one datagram or client off the queue and leave it unserved. Returns the client's address, or `peer` where
    that is known already. No server may be running, or it would be a datagram or client of the server's."""
    with suppress(OSError):
        if sock.type == socket.SOCK_DGRAM:
            with Awake():  # a unix socket's may have come with descriptors
                sock.recv(1, socket.MSG_DONTWAIT)
        else:
            accepted, address = accept_now(sock)
            peer = _packed_address(address)
            close_shared_sockets([accepted])
    return peer


def accept_now(sock: socket.socket) -> tuple[socket.socket, object]:
    """accept() that does not block, though other processes accept from the socket. Raises OSError.

    What a server left behind has the socket too, may take the client first, and may change the shared O_NONBLOCK back
    in between: a timer ends what that would make endless.
    """
    sock.setblocking(False)
    before = signal.signal(signal.SIGALRM, _give_up_accept)
    signal.setitimer(signal.ITIMER_REAL, ACCEPT_WITHIN, ACCEPT_WITHIN)
    try:
        return sock.accept()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _give_up_accept(number: int, frame: object) -> None:
    """Interrupt an accept that blocks (on SIGALRM)."""
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def is_spoilt(sock: socket.socket) -> bool:
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
    """Read the errors that answers of earlier servers have met with, so that they wake the supervisor no more."""
    with suppress(OSError):
        while True:
            sock.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _packed_address(address: object) -> Peer:
    """A socket address as the Board keeps it: IPv4 inside IPv6 as IPv4; b"" for anything but an Internet address."""
    if not isinstance(address, tuple):
        return b"", 0
    peer = ip_address(str(address[0]).partition("%")[0])
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return peer.packed, int(address[1])
