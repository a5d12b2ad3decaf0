"""Ports that over_rate = close has closed: when they listen again.

Theory. An acceptor that finds the rate used up shuts the listener down, marks the row as closed and writes a record;
the record comes here, and when the pause is over the socket listens again. The service may have been removed meanwhile,
and its socket may be another service's by now (the same port under another name): that one did not ask for the pause,
so the socket listens again as soon as no process is left that could close it in the old name. Its row is not freed
before.

Rules of this file: it borrows the sockets; only `reopen` clears a row's mark.
"""

from __future__ import annotations

import socket
from functools import partial

from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.services.installed import InstalledServices
from fastinetd.services.listeners import Listeners
from fastinetd.services.sockets import BACKLOG, open_guard
from fastinetd.system.loop import Loop

RETRY_AFTER = 1.0
"""Seconds until the next attempt where a port cannot be listened on, or the process that closed it has died."""


class ClosedPorts:
    """The pauses of closed ports, by the rows of their services."""

    def __init__(self, board: Board, loop: Loop, services: InstalledServices, listeners: Listeners,
                 messages: DaemonLog) -> None:
        self._board = board
        self._loop = loop
        self._services = services
        self._listeners = listeners
        self._messages = messages

    def reopen_later(self, row: int, seconds: float) -> None:
        """A row's port was closed for so long."""
        self._loop.later(seconds, partial(self.reopen, row))

    def reopen_orphaned(self) -> None:
        """A role has died: it may have closed a port, and not have come to write the record."""
        for row in [row for row in self._services.by_row if self._board.row_closed(row)]:
            self.reopen_later(row, RETRY_AFTER)

    def reopen(self, row: int) -> None:
        """Listen again on a row's port, if it is still closed."""
        installed = self._services.by_row.get(row)
        if installed is None or not self._board.row_closed(row):
            return
        try:
            for sock in self._listeners.sockets_of_service(installed.planned):
                if sock.type == socket.SOCK_STREAM:
                    _listen_again(sock)
        except OSError as error:  # another program has taken the port meanwhile
            name = installed.planned.id
            self._messages.error(f"service {name}: cannot listen: {error.strerror}; it is tried again")
            self.reopen_later(row, RETRY_AFTER)
            return
        self._board.row_open(row)
        self._messages.error(f"Activating service {installed.planned.id}")


def _listen_again(sock: socket.socket) -> None:
    """Listen on a port that was closed, beside the connections of its servers. That takes SO_REUSEADDR, with which
    any user could have the port from here to listen(2): meanwhile a guard keeps it. Raises OSError, with the port kept
    all the same."""
    with open_guard(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.listen(BACKLOG)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            raise
