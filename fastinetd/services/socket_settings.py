"""What a server may change on a socket that was handed to it, and how that is put right for the next one.

Theory. A wait service has one socket for all its servers, and so they have its options in common: a server that leaves
a filter, an offset for peeking or a tiny buffer leaves it to all later ones. So the options are read while no server
has the socket, compared when the last server has ended, and set back. Options that can be set and not taken back (a
locked filter, keys for signatures), or that may have let others in (a datagram port that was shared), make another
socket necessary. Group memberships are not looked at: they cannot be listed, and are what a server of multicast wants.

Rules of this file: sockets are borrowed, and no server has them meanwhile. An option that this kernel does not know, or
that is not this kind of socket's, is passed over.
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress

from fastinetd.services.sockets import BACKLOG
from fastinetd.services.tcp_keys import has_keys

SOL_SOCKET, IP, IPV6, TCP, UDP = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP, 17

# asm-generic/socket.h
SO_SNDBUF, SO_RCVBUF, SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_BUF_LOCK = 7, 8, 32, 33, 72
SO_DETACH_FILTER, SO_DETACH_REUSEPORT_BPF = 27, 68

OPTIONS = (
    *((SOL_SOCKET, number) for number in (
        1, 2, 5, 6, 9, 10, 11, 12, 13, 15,  # debug, reuse, routing, broadcast, keep-alive, urgent, priority, linger
        16, 18, 20, 21, 25, 29, 34, 35, 36, 37,  # credentials, RCVLOWAT, RCVTIMEO, SNDTIMEO, device, time stamps, mark
        40, 41, 42, 43, 44, 45, 46, 47, 49,  # overflows, PEEK_OFF (42), LOCK_FILTER (44), errors, polling, pacing, CPU
        63, 64, 65, 82, 83,  # time stamps of the new kind, which 29 does not show, priority told, PASSRIGHTS
        60, 61, 69, 70, 73, 74, 75, 76,  # zero copy, send times, busy poll, reserved memory, hash, mark, pidfd
        SO_SNDBUF, SO_RCVBUF, SO_BUF_LOCK,  # in this order: to set a buffer's size locks it
    )),
    *((IP, number) for number in (
        1, 2, 4, 6, 7, 8, 10, 11, 12, 13, 15,  # TOS, TTL, options, what is told of each datagram, path MTU, FREEBIND
        18, 19, 20, 21, 22, 23, 24, 25, 26,  # TRANSPARENT, MINTTL (21), fragments, checksums
        32, 33, 34, 49, 50, 51,  # multicast's interface, TTL, loop and groups; unicast's interface; local ports
    )),
    *((IPV6, number) for number in (
        2, 3, 4, 5, 8, 11,  # what is told of each datagram, by RFC 2292; flow label
        16, 17, 18, 19, 22, 23, 25, 29, 30, 31, 33,  # hops, multicast, router alert, path MTU, errors
        49, 51, 53, 54, 55, 56, 57, 58, 59, 60, 62, 66, 67,  # what is told of each, by RFC 3542, its headers; class
        70, 72, 73, 74, 75, 76, 77, 78,  # flow label, source addresses, MINHOPCOUNT (73), interface, FREEBIND
    )),
    *((TCP, number) for number in (
        1, 3, 4, 5, 6, 7, 8, 9, 10, 12,  # NODELAY, CORK, keep-alive's times, tries, DEFER_ACCEPT (9), window, QUICKACK
        13, 16, 17, 18, 19, 23, 25, 27, 31, 34, 36, 37,  # congestion, times, REPAIR, FASTOPEN, kept SYN, ULP (31)
        44, 45, 46,  # times of repetition and of acknowledgement
    )),
    *((UDP, number) for number in (1, 100, 101, 102, 103, 104)),  # CORK, ENCAP, checksums, segments
)  # fmt: skip
"""Level and number of every option that can be read and set: asm-generic/socket.h, linux/in.h, in6.h, tcp.h, udp.h."""

UNREADABLE = ((IPV6, 24, 0), (IPV6, 50, bytes(20)), (TCP, socket.TCP_MAXSEG, 0))
"""Options that can be set and not read, each with the value that stands for none: IPV6_MTU and IPV6_PKTINFO of what is
sent, and the largest segment of what is accepted."""

CONFIGURED = ((TCP, 1), (SOL_SOCKET, 9), (SOL_SOCKET, SO_SNDBUF), (SOL_SOCKET, SO_RCVBUF), (SOL_SOCKET, SO_BUF_LOCK))
"""The options that the configuration sets; a reload may change them."""

SHARED = (SOL_SOCKET, socket.SO_REUSEADDR)
"""The option with which every user may bind a datagram port as well, and get what comes for it, for as long as that
user likes."""

FORCED = {SO_SNDBUF: SO_SNDBUFFORCE, SO_RCVBUF: SO_RCVBUFFORCE}
"""Options by which CAP_NET_ADMIN gives a buffer back its size, whatever the system's limit is by now."""

RESTORE_ROUNDS = 3
"""Rounds of setting options back: to set one changes others (a buffer's size locks it, time stamps of the old kind show
those of the new kind)."""

Option = tuple[int, int]
Settings = dict[Option, bytes]


def settings_of(sock: socket.socket, options: tuple[Option, ...] = OPTIONS) -> Settings:
    """The values of the options that a socket has and that can be read."""
    settings = {}
    for level, number in options:
        with suppress(OSError):
            settings[level, number] = sock.getsockopt(level, number, 64)
    return settings


def restore_settings(sock: socket.socket, own: Settings) -> bool:
    """Set a socket's options back to those of `own`, after servers; False when that cannot be done."""
    for number in (SO_DETACH_FILTER, SO_DETACH_REUSEPORT_BPF):
        with suppress(OSError):  # there is none, or it is locked, which is an option of its own
            sock.setsockopt(SOL_SOCKET, number, 0)
    with suppress(OSError):  # who gets a signal for what comes
        flags = fcntl.fcntl(sock, fcntl.F_GETFL)
        fcntl.fcntl(sock, fcntl.F_SETFL, flags & ~(os.O_ASYNC | os.O_APPEND | os.O_DIRECT | os.O_NOATIME))
        fcntl.fcntl(sock, fcntl.F_SETOWN, 0)
        fcntl.fcntl(sock, fcntl.F_SETSIG, 0)
    if sock.type == socket.SOCK_STREAM:
        try:
            sock.listen(BACKLOG)  # a server may have made the queue shorter
        except OSError:  # it is connected, or was shut down and another has the port by now
            return False
        if sock.family != socket.AF_UNIX and has_keys(sock):
            return False
    for level, number, nothing in UNREADABLE:
        with suppress(OSError):
            sock.setsockopt(level, number, nothing)
    changed: set[Option] = set()
    for _ in range(RESTORE_ROUNDS):
        now = _changed_settings(sock, own)
        if not now:
            break
        changed.update(now)
        for option in now:
            with suppress(OSError):
                _set_back(sock, option, own[option])
    else:
        if _changed_settings(sock, own):
            return False
    return sock.type != socket.SOCK_DGRAM or sock.family == socket.AF_UNIX or SHARED not in changed


def _changed_settings(sock: socket.socket, own: Settings) -> list[Option]:
    """The options that are not as they were, those included that cannot be read any more (of a device that is gone)."""
    now = settings_of(sock, tuple(own))
    return [option for option, value in own.items() if now.get(option) != value]


def _set_back(sock: socket.socket, option: Option, value: bytes) -> None:
    """Set one option back. Raises OSError."""
    level, number = option
    if level == SOL_SOCKET and number in FORCED:
        half = int.from_bytes(value, "little") // 2  # the kernel doubles what it is given
        try:
            sock.setsockopt(level, FORCED[number], half)
        except PermissionError:
            sock.setsockopt(level, number, half)
    else:
        sock.setsockopt(level, number, value)
