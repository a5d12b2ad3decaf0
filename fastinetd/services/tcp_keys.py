"""Whether a listening TCP socket has keys, by which its clients' segments must be signed (TCP_MD5SIG, RFC 2385).

Theory. Every owner of a socket may set one, for any clients; those get no answer any more unless they sign. No socket
option shows it, but inet_diag does (sock_diag(7)), to a process with CAP_NET_ADMIN. Keys of TCP-AO (RFC 5925, Linux
6.7) are not in its answers.

Rules of this file: sockets are borrowed. Where the kernel does not say, the answer is no.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

from fastinetd.system.listen_queues import INET_ANSWER, TCP_LISTEN, Unanswered, dump_sockets, split_attributes

INET_DIAG_INFO, INET_DIAG_MD5SIG = 2, 18  # linux/inet_diag.h; the second comes with the first
REQUEST = struct.Struct("=BBBxLH46x")  # struct inet_diag_req_v2: family, protocol, extensions, states, own port


def has_keys(sock: socket.socket) -> bool:
    """Whether a listening TCP socket has a key; False where the kernel does not say."""
    extensions, states = 1 << INET_DIAG_INFO - 1, 1 << TCP_LISTEN
    with suppress(OSError, Unanswered):
        inode = os.fstat(sock.fileno()).st_ino
        port = socket.htons(sock.getsockname()[1])
        for body in dump_sockets(REQUEST.pack(sock.family, socket.IPPROTO_TCP, extensions, states, port)):
            if len(body) >= INET_ANSWER.size and INET_ANSWER.unpack_from(body)[-1] == inode:
                return any(kind == INET_DIAG_MD5SIG for kind, _ in split_attributes(body, INET_ANSWER.size))
    return False
