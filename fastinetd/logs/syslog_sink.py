"""Syslog: the socket of syslog(3). It takes datagrams or, where it is a stream, entries that NUL ends."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence

from fastinetd.logs.sink import Report, Sink, utf8_of, write_each

_DATAGRAM = 8000  # bytes of an entry, below any receive buffer
_DISCONNECTED = (errno.ECONNREFUSED, errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET)


class SyslogSink(Sink):
    """The syslog daemon's socket."""

    def __init__(self, path: str, clock: Callable[[], float], report: Report, note: Callable[[int], str]) -> None:
        super().__init__(f"syslog ({path})", clock, report, note)
        self._path = path
        self._socket: socket.socket | None = None
        self._stream = False
        self._rest = b""  # of an entry that a stream took in part

    def descriptor(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def reopen(self) -> None:
        self._disconnect()
        super().reopen()

    def close(self) -> None:
        super().close()
        self._disconnect()

    def _unfinished(self) -> bool:
        return bool(self._rest)

    def _remedy(self, error: OSError) -> str:
        if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            return ""
        return "start a syslog daemon, or write to a file (-filelog FILE; of services log_type = FILE PATH); "

    def _write(self, entries: Sequence[str]) -> int:
        self._send(b"")  # the rest of what an earlier call began
        return write_each(entries, lambda entry: self._send(utf8_of(entry)[:_DATAGRAM]))

    def _send(self, data: bytes) -> None:
        """Send the rest of an entry, and then `data`; connect again where the daemon has gone."""
        try:
            self._send_once(data)
        except OSError as error:
            if error.errno not in _DISCONNECTED:
                raise
            self._disconnect()
            self._send_once(data)  # a syslog daemon that was started again listens on a new socket

    def _send_once(self, data: bytes) -> None:
        to = self._socket or self._connect()
        if self._rest:
            self._rest = self._rest[to.send(self._rest) :]
            if self._rest:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if data:
            data += b"\0" if self._stream else b""
            self._rest = data[to.send(data) :]

    def _connect(self) -> socket.socket:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                made.connect(self._path)
            except OSError as error:
                made.close()
                if error.errno != errno.EPROTOTYPE or kind == socket.SOCK_STREAM:
                    raise
            else:
                self._socket, self._stream = made, kind == socket.SOCK_STREAM
                return made
        raise AssertionError("not reached")

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._rest = b""
