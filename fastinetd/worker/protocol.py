"""The worker's side of the protocol (docs/workers.md): the daemon's socket, connections, the clients' addresses.

Theory. The worker sends that it is ready, with the status of the connection before; the daemon answers with a
connection and its variables, or with end of file, and then the worker ends. Without FASTINETD_WORKER in the environment
the process was started for the one connection on descriptor 0, which is served in the same way.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastinetd.worker.log import clients_only, print_to_the_daemon

VARIABLE = "FASTINETD_WORKER"
"""The variable of a worker's environment that has the descriptor of the daemon's socket."""

RECEIVED_BYTES = 8192
"""Bytes that are received of a message; the daemon sends less than an eighth of it."""

ONE_CONNECTION = (
    "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPLOCALPORT", "PROTO", "REMOTE_ADDR", "REMOTE_PORT", "REMOTE_HOST",
    "IPCREMOTEEUID", "IPCREMOTEEGID",
)  # fmt: skip
"""The variables of a connection in the environment of a process that was started for it."""

_STATUSES = tuple(number.to_bytes(4, sys.byteorder) for number in range(256))
_ANCILLARY = socket.CMSG_SPACE(4)
_NO_SIGNAL, _OWN, AT_ONCE = map(int, (socket.MSG_NOSIGNAL, socket.MSG_CMSG_CLOEXEC, socket.MSG_DONTWAIT))
_STREAM, _TCP = int(socket.SOCK_STREAM), int(socket.IPPROTO_TCP)
_BOTH = int(socket.SHUT_RDWR)
_CUT = int(socket.MSG_CTRUNC | socket.MSG_TRUNC)

# The dict within os.environ: the methods of os.environ, for each variable of each connection, are a sixth of a worker's
# time.
_environ: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
_putenv, _unsetenv = os.putenv, os.unsetenv

Message = tuple[bytes, list[tuple[int, int, bytes]], int, Any]
"""A message as socket.recvmsg returns it: bytes, ancillary data, flags, address."""


class Peer(NamedTuple):
    """The client of a connection. On a unix socket addresses are empty and ports 0."""

    host: str
    """The numeric address of the client."""
    port: int
    """The port of the client."""
    local_host: str
    """The numeric address to which the client has connected."""
    local_port: int
    """The port to which the client has connected."""
    protocol: str
    """TCP, or IPC on a unix socket."""
    variables: Mapping[str, str]
    """The connection's variables, REMOTE_HOST and the others."""


def _peer_of(variables: Mapping[str, str]) -> Peer:
    """The client of a connection with these variables."""
    value = variables.get
    return Peer(
        value("TCPREMOTEIP", ""), int(value("TCPREMOTEPORT", 0)),
        value("TCPLOCALIP", ""), int(value("TCPLOCALPORT", 0)), value("PROTO", ""), variables,
    )  # fmt: skip


class Broken(Exception):
    """Raised when the daemon's socket, or what it sends, cannot be used."""


def close(connection: socket.socket) -> None:
    """Shut and close a connection, also if other processes have its socket."""
    try:  # noqa: SIM105 - for each connection, and suppress() is slower
        connection.shutdown(_BOTH)
    except OSError:
        pass  # the client has reset it, or the handler has closed it
    descriptor = connection.detach()  # close() would wait for a forgotten makefile()
    if descriptor >= 0:
        os.close(descriptor)


class Daemon:
    """The worker's end of the daemon's socket: `ready`, `receive`, `accept`, `finish` in turn for each connection."""

    def __init__(self, descriptor: int) -> None:
        try:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)
            self.socket.set_inheritable(False)
        except OSError as error:
            raise Broken(f"{VARIABLE}={descriptor} is not the daemon's socket: {error}") from error
        self._constant = dict(os.environb)
        self._names: list[bytes] = []
        self._pid = os.getpid()

    def ready(self, status: int) -> bool:
        """Send "ready" with the status, 0 to 255, of the connection before; False if the daemon is gone."""
        try:
            self.socket.send(_STATUSES[status], _NO_SIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self, flags: int = 0) -> Message | None:
        """The daemon's next message; None at the end of file, which ends the worker."""
        try:
            message = self.socket.recvmsg(RECEIVED_BYTES, _ANCILLARY, _OWN | flags)
        except ConnectionResetError:  # the daemon ended before it read the last message of this worker
            return None
        return message if message[0] or message[1] else None

    def accept(self, message: Message) -> tuple[socket.socket, Peer]:
        """The connection of a message, and its client; its variables enter the environment. Raises Broken."""
        data, ancillary, flags, _ = message
        if not ancillary or flags & _CUT:
            raise Broken("no descriptor came with a connection: raise rlimit_files, or close what the handler opens")
        descriptor = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        # Each -1 costs a getsockopt(2), so type and protocol are given where the variables tell them.
        known = (-1, _STREAM, _TCP) if b"PROTO=TCP\0" in data else (-1, -1, -1)
        connection = socket.socket(*known, descriptor)
        pairs = dict([item.split(b"=", 1) for item in data[:-1].split(b"\0") if item])
        for name, value in pairs.items():
            _putenv(name, value)
        _environ.update(pairs)
        self._names = list(pairs)
        text = data[:-1].decode("utf-8", "surrogateescape").split("\0")
        return connection, _peer_of(dict([item.split("=", 1) for item in text if item]))

    def end_child(self, status: int) -> None:
        """End this process if a handler has forked it: only one process may receive from the daemon."""
        if os.getpid() != self._pid:
            os._exit(status)

    def finish(self, connection: socket.socket) -> None:
        """Close a connection and remove its variables from the environment."""
        close(connection)
        for name in self._names:
            if name in self._constant:
                os.environb[name] = self._constant[name]
            else:
                _unsetenv(name)
                _environ.pop(name, None)  # None: the handler may have removed it


def open_daemon() -> Daemon | None:
    """The daemon's socket; None for a process that was started for one connection. Raises Broken.

    FASTINETD_WORKER is removed from the environment: programs that a handler starts are no workers.
    """
    given = os.environ.pop(VARIABLE, None)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal()):
        raise Broken(f"{VARIABLE}={given}: expected the number of a descriptor")
    daemon = Daemon(int(given))
    print_to_the_daemon()
    return daemon


def open_only_connection() -> tuple[socket.socket, Peer]:
    """The connection on descriptor 0 under another number, and its client. Raises Broken.

    0 and 1 become /dev/null, as they are in a worker, and so does 2 if it is the client's connection.
    """
    try:
        descriptor = os.dup(0)
        connection = socket.socket(fileno=descriptor)
    except OSError as error:
        raise Broken(f"descriptor 0 is no connection ({error.strerror}): this is a server of fastinetd's") from None
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2) if clients_only() else (0, 1):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    print_to_the_daemon()
    return connection, _peer_of({name: os.environ[name] for name in ONE_CONNECTION if name in os.environ})


class Connections:
    """An iterable of connections. `status`, 0 to 255, may be set in each turn and is the status of that connection."""

    def __init__(self) -> None:
        self.status = 0

    def __iter__(self) -> Iterator[tuple[socket.socket, Peer]]:
        daemon = open_daemon()
        if daemon is None:
            connection, peer = open_only_connection()
            try:
                yield connection, peer
            finally:
                close(connection)
            return
        while daemon.ready(self.status & 255) and (message := daemon.receive()):
            connection, peer = daemon.accept(message)
            self.status = 0
            try:
                yield connection, peer
            finally:
                daemon.end_child(self.status & 255)
                daemon.finish(connection)
        self.status = 0


def connections() -> Connections:
    """The connections of this process, one after another, as (socket, Peer); each is closed at the end of its turn."""
    return Connections()
