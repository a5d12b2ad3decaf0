"""Messages of processes that are not trusted, and descriptors that they have had: nobody waits for them.

Theory: strangers.h. From Linux 6.16 on the kernel refuses what must not come; before, a message is peeked at first.

Rules of this file
 - A message that descriptors came with stays where it is: its channel is not read any more, only closed.
 - Each channel to a process that is not trusted is made known to refuse_descriptors before anybody else has it.
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


cdef bint ask_kernel = True  # tests have it as on an older one
cdef bint refused = False  # the kernel refuses them, on every channel


cdef void refuse_descriptors(int channel) noexcept nogil:
    """Let no descriptors come by this channel, as far as the kernel can have it so."""
    global refused
    if ask_kernel and forbid_descriptors(channel):
        refused = True


cdef ssize_t receive_words(int channel, void *data, size_t room, i32 *pid) noexcept nogil:
    """Receive a message without waiting; *pid is its sender's, by the kernel's word, on a socket with SO_PASSCRED; NULL for
    others.

    Returns its whole length (which may be more than `room`), 0 at the end, or minus an errno; -EBADMSG: descriptors came
    with it, and it is still there."""
    cdef ssize_t length
    if not refused:
        length = receive_once(channel, data, room, pid, MSG_PEEK)
        if length <= 0:
            return length
    return receive_once(channel, data, room, pid, 0)


cdef void close_channel(int channel) noexcept nogil:
    """Close a channel (taken); what is still in it is lost."""
    cdef char byte
    cdef ssize_t length = 1
    cdef int no = 0
    if not refused:
        setsockopt(channel, SOL_SOCKET, SO_PASSCRED, &no, sizeof(no))  # then there is no need of room for that
        shutdown(channel, SHUT_RDWR)  # nobody adds to it any more
        while length > 0 or length == -EINTR:
            length = receive_words(channel, &byte, 1, NULL)
        if length == -EBADMSG:
            close_elsewhere(channel)
            return
    close(channel)


# ---- for the supervisor, which owns sockets as objects ----

def guard(channel: socket.socket) -> None:
    """Let no descriptors come by this channel, as far as the kernel can have it so."""
    refuse_descriptors(channel.fileno())


def receive(channel: socket.socket, size_t room) -> bytes:
    """The next message, cut to `room` bytes, without waiting. Raises OSError; EBADMSG: descriptors came with it, so the
    channel can only be closed."""
    cdef bytes data = bytes(room)
    cdef ssize_t length = receive_words(channel.fileno(), <char *> data, room, NULL)
    if length < 0:
        raise OSError(-length, os.strerror(-length))
    return data[:length]


class Awake:
    """While this context lasts no sleep of this process that a signal ends is longer than a millisecond."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, lambda *_: None)
        keep_awake()

    def __exit__(self, *_: object) -> None:
        stop_waking()
        signal.signal(signal.SIGALRM, self._before)


def close_words(channel: socket.socket) -> None:
    """Close a channel; what is still in it is lost."""
    with Awake():
        close_channel(channel.detach())


def close_shared_sockets(sockets: Iterable[socket.socket]) -> None:
    """Close sockets that servers have had, or that clients may have sent descriptors to."""
    with Awake():
        for one in sockets:
            one.close()


# ---- for tests ----

def as_before_linux_6_16(bint so = True) -> None:
    """Have no descriptors refused from now on by the kernel, in this process and those it forks."""
    global ask_kernel, refused
    ask_kernel, refused = not so, False
