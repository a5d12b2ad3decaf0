"""The machines of all wait services' sockets, kept across reloads."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator

from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.doorman.client import DoormanClient
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.services.children import Children
from fastinetd.services.installed import InstalledService
from fastinetd.services.listeners import Listeners
from fastinetd.services.wait import WaitContext, WaitSocket
from fastinetd.services.wait_states import State
from fastinetd.system.loop import Loop

Listening = tuple[InstalledService, socket.socket]
"""A service, and a socket that it listens on (borrowed)."""


class WaitServices:
    """The machines, each by its socket."""

    def __init__(self, board: Board, loop: Loop, keeper: Keeper, children: Children, questions: DoormanClient,
                 listeners: Listeners, messages: DaemonLog) -> None:
        self._listeners = listeners
        self._context = WaitContext(board, loop, keeper, children, questions, messages, self._replace_socket)
        self._machines: dict[socket.socket, WaitSocket] = {}

    def __iter__(self) -> Iterator[WaitSocket]:
        return iter(self._machines.values())

    def serve(self, wanted: Iterable[Listening]) -> None:
        """Serve these sockets, and no others."""
        services = {sock: installed for installed, sock in wanted}
        self.withdraw([sock for sock in self._machines if sock not in services])
        for sock, installed in services.items():
            machine = self._machines.get(sock)
            if machine is None:
                self._machines[sock] = WaitSocket(installed, sock, self._context)
            else:
                machine.use(installed)

    def withdraw(self, sockets: Iterable[socket.socket]) -> None:
        """Leave these sockets alone, before they are closed: what a server kept of them would go on waking the loop."""
        for machine in [self._machines.pop(sock) for sock in sockets if sock in self._machines]:
            machine.withdraw()

    def _replace_socket(self, sock: socket.socket) -> None:
        """A server has spoilt a socket: leave alone all that its endpoint has, and open that anew."""
        self.withdraw(self._listeners.sockets_beside(sock))
        self._listeners.renew(sock)

    def misplaced_servers(self, wanted: Iterable[Listening], removed: Iterable[InstalledService]) -> list[int]:
        """Pids of servers whose socket is wanted no more, or is another service's now: they would go on serving it.
        Servers of services that are removed are not among them (supervisor/removals.py sees to those)."""
        kept = {(installed.row, sock) for installed, sock in wanted}
        gone = {installed.row for installed in removed}
        return [
            pid for machine in self._machines.values() for pid in machine.servers
            if (machine.installed.row, machine.sock) not in kept and machine.installed.row not in gone
        ]

    def rows_left_to_servers(self) -> set[int]:
        """Rows of services with a socket that has as many servers as it may, and so is not watched."""
        return {machine.installed.row for machine in self._machines.values() if machine.state is State.FULL}
