"""Which clients are in the accept queue of a stream socket: who is still there has not been accepted.

Theory. The queue's length alone does not show whether a server has accepted a client, for others may have come. The
kernel lists connections that have not been accepted as sockets without an inode, each with a cookie of its own
(sock_diag(7), inet_diag); of a listening unix socket it lists the inodes of those that have connected (unix_diag).

Rules of this file: sockets are borrowed. `pending` raises nothing; where the kernel does not say, its answer is None.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fastinetd.system.listen_queues import (
    TCP_LISTEN,
    UNIX_ANSWER,
    UNIX_REQUEST,
    Unanswered,
    dump_sockets,
    split_attributes,
)

TCP_ESTABLISHED, TCP_CLOSE_WAIT = 1, 8
UDIAG_SHOW_ICONS = 0x08
UNIX_DIAG_ICONS = 3

QUEUE_REQUEST = struct.Struct("=BBBxLH46x")  # struct inet_diag_req_v2: family, protocol, extensions, states, own port
QUEUE_ANSWER = struct.Struct("=BBxxHH16s16s4x8s16xL")  # inet_diag_msg: family, state, ports, addresses, cookie, inode

Clients = frozenset[object]
"""Clients that wait to be accepted, each by something that no other one has."""


def pending_clients(sock: socket.socket) -> Clients | None:
    """The clients in a listening socket's queue; None where the kernel does not say."""
    with suppress(OSError, Unanswered):
        if sock.family == socket.AF_UNIX:
            return frozenset(_inodes_of_clients(os.fstat(sock.fileno()).st_ino))
        address, port = sock.getsockname()[:2]
        own = socket.inet_pton(sock.family, address)
        try:
            return frozenset(_cookies_of_clients(sock.family, own, port))
        except (OSError, Unanswered):  # no inet_diag
            table = "/proc/net/tcp6" if sock.family == socket.AF_INET6 else "/proc/net/tcp"
            return frozenset(_addresses_in_table(Path(table), port))
    return None


def _cookies_of_clients(family: int, own: bytes, port: int) -> Iterator[bytes]:
    """The clients in the queue of a TCP socket, each by its cookie. Raises OSError and Unanswered."""
    states = 1 << TCP_ESTABLISHED | 1 << TCP_CLOSE_WAIT
    for body in dump_sockets(QUEUE_REQUEST.pack(family, socket.IPPROTO_TCP, 0, states, socket.htons(port))):
        if len(body) >= QUEUE_ANSWER.size:
            _, _, local, _, address, _, cookie, inode = QUEUE_ANSWER.unpack_from(body)
            if inode == 0 and socket.ntohs(local) == port and (not any(own) or address.startswith(own)):
                yield cookie


def _addresses_in_table(table: Path, port: int) -> Iterator[bytes]:
    """The clients in the queue of a TCP socket, each by its address and port, as /proc/net/tcp or tcp6 has them
    (proc_pid_net(5)). Raises OSError."""
    for line in table.read_bytes().splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[1].endswith(b":%04X" % port) and words[3] in (b"01", b"08") and words[9] == b"0":
            yield words[2]


def _inodes_of_clients(inode: int) -> Iterator[int]:
    """The clients in the queue of a unix socket, each by its inode. Raises OSError and Unanswered."""
    request = UNIX_REQUEST.pack(socket.AF_UNIX, 0, 1 << TCP_LISTEN, 0, UDIAG_SHOW_ICONS)
    for body in dump_sockets(request):
        if len(body) < UNIX_ANSWER.size or UNIX_ANSWER.unpack_from(body)[3] != inode:
            continue
        for kind, value in split_attributes(body, UNIX_ANSWER.size):
            if kind == UNIX_DIAG_ICONS:
                yield from struct.unpack_from(f"={len(value) // 4}L", value)
