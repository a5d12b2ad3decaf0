"""The lengths of the accept queues of listening sockets, read without having the sockets.

Theory. The monitor has no listener but its own, so it asks the kernel by inode: one NETLINK_SOCK_DIAG dump for each
address family, of sockets in the state LISTEN only (sock_diag(7)). For a TCP socket in that state idiag_rqueue is the
number of connections that wait for accept(2); for a unix socket UNIX_DIAG_RQLEN is. No privilege is needed; the dump
has the sockets of the process's network namespace. Where the kernel has no tcp_diag, the numbers are in /proc/net/tcp
and /proc/net/tcp6 (proc_pid_net(5)), at the price of reading every connection; for unix sockets there is no second
source.

Rules of this file
 - `read_queues` never raises and never waits for long: a length that cannot be learned is not in its answer.
 - Messages are split by their own lengths, and a length that does not fit ends the message.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h>, <linux/unix_diag.h>
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
TCP_LISTEN = 10
UDIAG_SHOW_RQLEN = 0x10
UNIX_DIAG_RQLEN = 4

HEADER = struct.Struct("=LHHLL")  # struct nlmsghdr: length, type, flags, sequence, port
INET_REQUEST = struct.Struct("=BBBxL48x")  # struct inet_diag_req_v2: family, protocol, extensions, states
UNIX_REQUEST = struct.Struct("=BBxxLLL8x")  # struct unix_diag_req: family, protocol, states, inode, show
INET_ANSWER = struct.Struct("=BBxx48x4xLLLL")  # inet_diag_msg: family, state, rqueue, wqueue, uid, inode
UNIX_ANSWER = struct.Struct("=BBBxL8x")  # struct unix_diag_msg: family, type, state, inode
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
LENGTHS = struct.Struct("=LL")  # struct unix_diag_rqlen: rqueue, wqueue

ANSWER_SIZE = 65536  # bytes; the kernel fills at most 32 KiB of a message
ANSWERED_WITHIN = 1.0  # seconds; the kernel answers at once, so a missing answer is a fault


class Unanswered(Exception):
    """Raised for a dump that the kernel refuses or leaves unfinished."""


def align_length(length: int) -> int:
    """A length rounded up to a multiple of four, at which the next message or attribute begins."""
    return (length + 3) & ~3


def inet_request(family: int) -> bytes:
    """The body of a request for all listening TCP sockets of a family."""
    return INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << TCP_LISTEN)


def unix_request() -> bytes:
    """The body of a request for all listening unix sockets, with their queues."""
    return UNIX_REQUEST.pack(socket.AF_UNIX, 0, 1 << TCP_LISTEN, 0, UDIAG_SHOW_RQLEN)


def split_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each netlink message in a datagram; ends at a length that cannot be."""
    at = 0
    while len(data) - at >= HEADER.size:
        length, kind, _, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size or at + length > len(data):
            return
        yield kind, data[at + HEADER.size : at + length]
        at += align_length(length)


def inet_length(body: bytes) -> tuple[int, int] | None:
    """Inode and queue length of an inet_diag_msg; None when the message is cut off or not of a listening socket."""
    if len(body) < INET_ANSWER.size:
        return None
    _, state, queued, _, _, inode = INET_ANSWER.unpack_from(body)
    return (inode, queued) if state == TCP_LISTEN else None


def unix_length(body: bytes) -> tuple[int, int] | None:
    """Inode and queue length of a unix_diag_msg; None when it is cut off, without length or not of a listening socket.
    """
    if len(body) < UNIX_ANSWER.size:
        return None
    _, _, state, inode = UNIX_ANSWER.unpack_from(body)
    for kind, value in split_attributes(body, UNIX_ANSWER.size):
        if state == TCP_LISTEN and kind == UNIX_DIAG_RQLEN and len(value) >= LENGTHS.size:
            return inode, LENGTHS.unpack_from(value)[0]
    return None


def split_attributes(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute in an answer from the offset `at` on; ends at a length that cannot be."""
    while len(body) - at >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size or at + length > len(body):
            return
        yield kind, body[at + ATTRIBUTE.size : at + length]
        at += align_length(length)


def dump_sockets(request: bytes) -> Iterator[bytes]:
    """The bodies of the kernel's answers to the body of a dump request, one for each socket.

    Raises OSError when there is no such netlink family, and Unanswered when the kernel refuses (ENOENT: the
    module for this kind of socket is missing) or stops before the end.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(ANSWERED_WITHIN)
        flags = NLM_F_REQUEST | NLM_F_DUMP
        header = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, flags, 1, 0)
        kernel.sendto(header + request, (0, 0))
        while True:
            data, _, flags, _ = kernel.recvmsg(ANSWER_SIZE)
            if flags & socket.MSG_TRUNC or not data:
                raise Unanswered("a truncated answer")
            for kind, body in split_messages(data):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise Unanswered("refused")
                if kind == SOCK_DIAG_BY_FAMILY:
                    yield body


def proc_lengths(table: bytes) -> dict[int, int]:
    """Inode -> queue length, from the content of /proc/net/tcp or tcp6; lines of another shape are skipped."""
    found: dict[int, int] = {}
    for line in table.splitlines():
        words = line.split()
        if len(words) < 10 or words[3] != b"%02X" % TCP_LISTEN:
            continue
        with suppress(ValueError):
            found[int(words[9])] = int(words[4].partition(b":")[2], 16)
    return found


def tcp_lengths(family: int, table: Path) -> dict[int, int]:
    """Inode -> queue length of the listening TCP sockets of a family; from `table` when the kernel has no tcp_diag."""
    try:
        return dict(found for body in dump_sockets(inet_request(family)) if (found := inet_length(body)))
    except (OSError, Unanswered):
        with suppress(OSError):
            return proc_lengths(table.read_bytes())
    return {}


def unix_lengths() -> dict[int, int]:
    """Inode -> queue length of the listening unix sockets; {} when the kernel has no unix_diag."""
    with suppress(OSError, Unanswered):
        return dict(found for body in dump_sockets(unix_request()) if (found := unix_length(body)))
    return {}


def read_queues() -> dict[int, int]:
    """Inode -> connections in the accept queue, of all listening TCP and unix sockets of this network namespace.

    The inode is the N of `socket:[N]` in /proc/PID/fd.
    """
    return {
        **tcp_lengths(socket.AF_INET, Path("/proc/net/tcp")),
        **tcp_lengths(socket.AF_INET6, Path("/proc/net/tcp6")),
        **unix_lengths(),
    }
