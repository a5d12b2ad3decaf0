"""Descriptors that stay open: at 64 or above, for a server is started with a copy of all that are below."""

from __future__ import annotations

import errno
import fcntl
import os
import socket

FIRST_DESCRIPTOR = 64
"""Long-lived descriptors are at or above."""


def lift(descriptor: int) -> int:
    """Move a descriptor to FIRST_DESCRIPTOR or above; takes `descriptor`. Raises OSError."""
    if descriptor >= FIRST_DESCRIPTOR:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
    except OSError as error:
        if error.errno == errno.EINVAL:  # the limit of open files was lowered to fewer than that (fcntl(2))
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
        raise
    finally:
        os.close(descriptor)


def lifted_pipe() -> tuple[int, int]:
    """A pipe's two ends, both at or above FIRST_DESCRIPTOR; the caller's. Raises OSError with nothing left open."""
    low_reader, low_writer = os.pipe2(os.O_CLOEXEC)
    try:
        reader = lift(low_reader)
    except OSError:
        os.close(low_writer)
        raise
    try:
        return reader, lift(low_writer)
    except OSError:
        os.close(reader)
        raise


def lifted(opened: socket.socket) -> socket.socket:
    """The same socket at or above FIRST_DESCRIPTOR; takes `opened`."""
    return socket.socket(opened.family, opened.type, opened.proto, fileno=lift(opened.detach()))


def close_others(keep: set[int]) -> None:
    """Close every descriptor from 3 on that is not in `keep`."""
    first = 3
    for descriptor in sorted(keep):
        if descriptor >= first:
            os.closerange(first, descriptor)
            first = descriptor + 1
    os.closerange(first, 2**31 - 1)
