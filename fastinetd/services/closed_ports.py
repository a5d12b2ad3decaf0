"""Ports that over_rate = close has closed: when they listen again.

Theory. An acceptor that finds the rate used up shuts the listener down, marks the row as closed and writes a record;
the record comes here, and when the pause is over the socket listens again. The service may have been removed meanwhile,
and its socket may be another's by now (the same port under another name): that one did not ask for the pause, so the
socket listens again as soon as nobody is left who could close it in the old name. A row is not freed before.

Rules of this file: it borrows the sockets; only `again` clears a row's mark.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.services.installed import InstalledService, InstalledServices
from fastinetd.services.sockets import BACKLOG, guard
from fastinetd.system.loop import Loop


class ClosedPorts:
    """The pauses of closed ports."""

    def __init__(self, board: Board, rows: InstalledServices, loop: Loop, messages: DaemonLog,
                 sockets: Callable[[InstalledService], list[socket.socket]]) -> None:
        """`sockets` gives a service's open sockets."""
        self._board = board
        self._rows = rows
        self._loop = loop
        self._messages = messages
        self._sockets = sockets

    def later(self, row: int, seconds: float) -> None:
        """The port was closed for so long."""
        self._loop.later(seconds, partial(self.again, row))

    def orphaned(self) -> None:
        """A role has died: who closed a port may not have come to say so."""
        for row in [row for row in self._rows.by_row if self._board.row_closed(row)]:
            self.later(row, 1)

    def again(self, row: int) -> None:
        """Listen again, if the port is still closed."""
        installed = self._rows.by_row.get(row)
        if installed is None or not self._board.row_closed(row):
            return
        try:
            for sock in self._sockets(installed):
                if sock.type == socket.SOCK_STREAM:
                    _listen_again(sock)
        except OSError as error:  # somebody took the port meanwhile
            name = installed.planned.id
            self._messages.error(f"service {name}: cannot listen: {error.strerror}; it is tried again")
            self.later(row, 1)
            return
        self._board.row_open(row)
        self._messages.error(f"Activating service {installed.planned.id}")


def _listen_again(sock: socket.socket) -> None:
    """Listen on a port that was closed, beside the connections of its servers. That takes SO_REUSEADDR, with which
    anybody could have the port from here to listen(2): meanwhile a guard keeps it. Raises OSError, with the port still
    nobody else's."""
    with guard(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.listen(BACKLOG)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            raise
