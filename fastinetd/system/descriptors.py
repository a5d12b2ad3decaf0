"""Descriptors that stay open are at 64 or above: the start of a server copies only those below."""

from __future__ import annotations

import errno
import fcntl
import os
import socket

FIRST_KEPT_DESCRIPTOR = 64
"""The lowest number of a descriptor that stays open; for the core it stands in descriptors.h."""


def lift_descriptor(descriptor: int) -> int:
    """Move a descriptor to a number from FIRST_KEPT_DESCRIPTOR on; takes `descriptor`, also when it raises OSError."""
    if descriptor >= FIRST_KEPT_DESCRIPTOR:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR)
    except OSError as error:
        if error.errno == errno.EINVAL:  # the limit of open files is not above FIRST_KEPT_DESCRIPTOR (fcntl(2))
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
        raise
    finally:
        os.close(descriptor)


def open_lifted_pipe() -> tuple[int, int]:
    """Reading and writing end of a new pipe, both from FIRST_KEPT_DESCRIPTOR on. After OSError none is open."""
    low_reader, low_writer = os.pipe2(os.O_CLOEXEC)
    try:
        reader = lift_descriptor(low_reader)
    except OSError:
        os.close(low_writer)
        raise
    try:
        return reader, lift_descriptor(low_writer)
    except OSError:
        os.close(reader)
        raise


def lift_socket(opened: socket.socket) -> socket.socket:
    """Move a socket to a descriptor from FIRST_KEPT_DESCRIPTOR on; takes `opened`. Raises OSError."""
    return socket.socket(opened.family, opened.type, opened.proto, fileno=lift_descriptor(opened.detach()))


def close_others(keep: set[int]) -> None:
    """Close every descriptor from 3 on that is not in `keep`."""
    first = 3
    for descriptor in sorted(keep):
        if descriptor >= first:
            os.closerange(first, descriptor)
            first = descriptor + 1
    os.closerange(first, 2**31 - 1)
