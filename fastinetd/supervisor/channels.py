"""The channels of a generation, on which its roles and the supervisor ask the doorman about clients."""

from __future__ import annotations

import socket

from fastinetd.system.descriptors import lift_socket
from fastinetd.system.strangers import close_message_channel, guard_channel


class Channels:
    """Pairs of sockets, one end for the process that asks, the other one for the doorman. Owns both ends of each."""

    def __init__(self) -> None:
        self._asking: list[socket.socket] = []
        self._answering: list[socket.socket] = []

    def open(self) -> socket.socket:
        """Make a channel; returns the end for the process that asks (borrowed). Raises OSError."""
        asking, answering = (lift_socket(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        for end in (asking, answering):
            guard_channel(end)
        self._asking.append(asking)
        self._answering.append(answering)
        return asking

    @property
    def answering(self) -> tuple[int, ...]:
        """The doorman's ends (borrowed)."""
        return tuple(end.fileno() for end in self._answering)

    def close(self) -> None:
        """Close every end that this process has."""
        for end in (*self._asking, *self._answering):
            close_message_channel(end)
        self._asking.clear()
        self._answering.clear()
