"""The worker's side of the protocol (docs/workers.md): the daemon's socket, connections, who the client is.

Theory. The worker says that it is ready, with the status of the connection before; the daemon answers with a connection
and its variables, or with end of file, which is the worker's end. Without FASTINETD_WORKER in the environment the
process was started for the one connection on descriptor 0, and everything looks the same to what serves it.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastinetd.worker.log import clients_only, print_to_the_daemon

VARIABLE = "FASTINETD_WORKER"
"""In the environment of a worker: the number of the daemon's socket."""

ROOM = 8192
"""Bytes of a message, at most: the daemon sends less than a tenth of it."""

ONE_CONNECTION = (
    "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "TCPLOCALPORT", "PROTO", "REMOTE_ADDR", "REMOTE_PORT", "REMOTE_HOST",
    "IPCREMOTEEUID", "IPCREMOTEEGID",
)  # fmt: skip
"""The variables that tell of a connection, where they come by the environment."""

_STATUSES = tuple(number.to_bytes(4, sys.byteorder) for number in range(256))
_ANCILLARY = socket.CMSG_SPACE(4)
_NO_SIGNAL, _OWN, AT_ONCE = map(int, (socket.MSG_NOSIGNAL, socket.MSG_CMSG_CLOEXEC, socket.MSG_DONTWAIT))
_STREAM, _TCP = int(socket.SOCK_STREAM), int(socket.IPPROTO_TCP)
_BOTH = int(socket.SHUT_RDWR)
_CUT = int(socket.MSG_CTRUNC | socket.MSG_TRUNC)

# What os.environ is made of. Its methods, for each variable of each connection, are a sixth of a worker's time.
_environ: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
_putenv, _unsetenv = os.putenv, os.unsetenv

Message = tuple[bytes, list[tuple[int, int, bytes]], int, Any]
"""What recvmsg returns: bytes, ancillary data, flags, address."""


class Peer(NamedTuple):
    """Who the client is. On a unix socket addresses are empty and ports 0."""

    host: str
    """Its numeric address."""
    port: int
    local_host: str
    """The address it has connected to."""
    local_port: int
    protocol: str
    """TCP, or IPC on a unix socket."""
    variables: Mapping[str, str]
    """The connection's variables, REMOTE_HOST and the others."""


def _peer(variables: Mapping[str, str]) -> Peer:
    value = variables.get
    return Peer(
        value("TCPREMOTEIP", ""), int(value("TCPREMOTEPORT", 0)),
        value("TCPLOCALIP", ""), int(value("TCPLOCALPORT", 0)), value("PROTO", ""), variables,
    )  # fmt: skip


class Broken(Exception):
    """The daemon's socket cannot be used as such."""


def close(connection: socket.socket) -> None:
    """Shut and close a connection, whoever else holds it."""
    try:  # noqa: SIM105 - for each connection, and suppress() is slower
        connection.shutdown(_BOTH)
    except OSError:
        pass  # the client has reset it, or the handler has closed it
    descriptor = connection.detach()  # close() would wait for a forgotten makefile()
    if descriptor >= 0:
        os.close(descriptor)


class Daemon:
    """The worker's end of the daemon's socket. Between `accept` and `finish` there is a connection."""

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
        """Ask for a connection; False: the daemon is gone."""
        try:
            self.socket.send(_STATUSES[status], _NO_SIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self, flags: int = 0) -> Message | None:
        """The next message, None at the end."""
        try:
            message = self.socket.recvmsg(ROOM, _ANCILLARY, _OWN | flags)
        except ConnectionResetError:  # the daemon has gone, and has not read our last message
            return None
        return message if message[0] or message[1] else None

    def accept(self, message: Message) -> tuple[socket.socket, Peer]:
        """The connection of a message; its variables enter the environment."""
        data, ancillary, flags, _ = message
        if not ancillary or flags & _CUT:
            raise Broken("no descriptor came with a connection: raise rlimit_files, or close what the handler opens")
        descriptor = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        # What is known already need not be asked of the kernel; the family is asked for in any case.
        known = (-1, _STREAM, _TCP) if b"PROTO=TCP\0" in data else (-1, -1, -1)
        connection = socket.socket(*known, descriptor)
        pairs = dict([item.split(b"=", 1) for item in data[:-1].split(b"\0") if item])
        for name, value in pairs.items():
            _putenv(name, value)
        _environ.update(pairs)
        self._names = list(pairs)
        text = data[:-1].decode("utf-8", "surrogateescape").split("\0")
        return connection, _peer(dict([item.split("=", 1) for item in text if item]))

    def end_child(self, status: int) -> None:
        """A child that was forked while the connection was served ends: two would hear what the daemon says."""
        if os.getpid() != self._pid:
            os._exit(status)

    def finish(self, connection: socket.socket) -> None:
        """Close the connection; its variables leave the environment."""
        close(connection)
        for name in self._names:
            if name in self._constant:
                os.environb[name] = self._constant[name]
            else:
                _unsetenv(name)
                _environ.pop(name, None)  # the handler may have done it


def open_daemon() -> Daemon | None:
    """None: this process was started for one connection. What a handler starts is no worker: the variable goes."""
    given = os.environ.pop(VARIABLE, None)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal()):
        raise Broken(f"{VARIABLE}={given}: expected the number of a descriptor")
    daemon = Daemon(int(given))
    print_to_the_daemon()
    return daemon


def open_only_connection() -> tuple[socket.socket, Peer]:
    """The connection on descriptor 0, moved away: 0 and 1 become /dev/null, as they are in a worker; so does 2 if it is
    the client's."""
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
    return connection, _peer({name: os.environ[name] for name in ONE_CONNECTION if name in os.environ})


class Connections:
    """What `connections` returns. `status`, 0 to 255, is what the connection of this turn ends with."""

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
    """Every connection that the daemon gives this process, as (socket, Peer), closed at the end of its turn."""
    return Connections()
