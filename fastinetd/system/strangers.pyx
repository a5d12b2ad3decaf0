"""Receives messages of untrusted processes, and closes sockets that they have had, without waiting for them.

Theory: strangers.h. From Linux 6.16 on the kernel refuses messages with descriptors; before, a message is peeked first.

Rules of this file
 - A message with descriptors stays in the queue: its channel is not read any more, only closed.
 - refuse_descriptors is called for each channel to an untrusted process before another process has it.
"""

from fastinetd.system.linux cimport EBADMSG, EINTR, SHUT_RDWR, SOL_SOCKET, close, i32, setsockopt, shutdown

import os
import signal
import socket
from collections.abc import Iterable


cdef extern from "system/strangers.h" nogil:
    enum:
        MSG_PEEK, SO_PASSCRED
    bint forbid_descriptors(int channel) noexcept
    ssize_t receive_once(int channel, void *data, size_t room, i32 *pid, int flags) noexcept
    void close_elsewhere(int fd) noexcept
    void keep_awake() noexcept
    void stop_waking() noexcept


cdef bint peeks = False  # there is a channel on which the kernel refuses no descriptors


cdef void refuse_descriptors(int channel) noexcept nogil:
    """Have the kernel refuse descriptors on a channel, if it can (Linux 6.16)."""
    global peeks
    if not forbid_descriptors(channel):
        peeks = True


cdef ssize_t receive_words(int channel, void *data, size_t room, i32 *pid) noexcept nogil:
    """Receive a message without waiting, at most `room` bytes of it.

    *pid is set to the sender's pid, as the kernel attests it, on a socket with SO_PASSCRED; NULL for other sockets.
    Returns the whole length of the message (which may be more than `room`), 0 at the end, or minus an errno; -EBADMSG:
    the message has descriptors and is still in the queue."""
    cdef ssize_t length
    if peeks:
        length = receive_once(channel, data, room, pid, MSG_PEEK)
        if length <= 0:
            return length
    return receive_once(channel, data, room, pid, 0)


cdef void close_channel(int channel) noexcept nogil:
    """Close a channel (taken); messages still in it are lost."""
    cdef char byte
    cdef ssize_t length = 1
    cdef int no = 0
    if peeks:
        # Else each message would need room for credentials.
        setsockopt(channel, SOL_SOCKET, SO_PASSCRED, &no, sizeof(no))
        shutdown(channel, SHUT_RDWR)  # no process can send to it any more
        while length > 0 or length == -EINTR:
            length = receive_words(channel, &byte, 1, NULL)
        if length == -EBADMSG:
            close_elsewhere(channel)
            return
    close(channel)


# ---- for the supervisor, which owns sockets as objects ----

def guard_channel(channel: socket.socket) -> None:
    """Have the kernel refuse descriptors on a channel, if it can (Linux 6.16)."""
    refuse_descriptors(channel.fileno())


def receive_message(channel: socket.socket, size_t room) -> bytes:
    """The next message, cut to `room` bytes, without waiting; b"" at the end.

    Raises OSError; EBADMSG for a message with descriptors, after which the channel can only be closed."""
    cdef bytes data = bytes(room)
    cdef ssize_t length = receive_words(channel.fileno(), <char *> data, room, NULL)
    if length < 0:
        raise OSError(-length, os.strerror(-length))
    return data[:length]


class Awake:
    """A context in which no sleep of this process that a signal ends is longer than a millisecond."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, lambda *_: None)
        keep_awake()

    def __exit__(self, *_: object) -> None:
        stop_waking()
        signal.signal(signal.SIGALRM, self._before)


def close_message_channel(channel: socket.socket) -> None:
    """Close a channel, in at most a moment; messages still in it are lost."""
    with Awake():
        close_channel(channel.detach())


def close_shared_sockets(sockets: Iterable[socket.socket]) -> None:
    """Close sockets that servers have had, or that clients may have sent descriptors to. Each sleeps a millisecond at
    most."""
    with Awake():
        for one in sockets:
            one.close()
