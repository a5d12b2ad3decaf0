"""The wait services' machines, one for each socket, kept across reloads."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator

from fastinetd._accept import Keeper
from fastinetd.core.board import Board
from fastinetd.doorman.client import DoormanClient
from fastinetd.services.children import Children
from fastinetd.services.installed import InstalledService
from fastinetd.services.wait import State, WaitSocket
from fastinetd.system.loop import Loop


class WaitServices:
    """The machines of all wait services, kept across reloads by their socket."""

    def __init__(self, board: Board, loop: Loop, keeper: Keeper, children: Children, questions: DoormanClient,
                 renew: Callable[[socket.socket], None], warn: Callable[[str], None]) -> None:
        """`renew(socket)`: its server has spoilt it, so another is needed. `warn(text)`: the administrator's."""
        self._make: Callable[[InstalledService, socket.socket], WaitSocket] = lambda installed, sock: WaitSocket(
            installed, sock, board, loop, keeper, children, questions, renew, warn
        )
        self._machines: dict[socket.socket, WaitSocket] = {}

    def __iter__(self) -> Iterator[WaitSocket]:
        return iter(self._machines.values())

    def install(self, wanted: list[tuple[InstalledService, socket.socket]]) -> None:
        """Serve these sockets, and no others."""
        names = {sock: installed for installed, sock in wanted}
        self.withdraw([sock for sock in self._machines if sock not in names])
        for sock, installed in names.items():
            machine = self._machines.get(sock)
            if machine is None:
                self._machines[sock] = self._make(installed, sock)
            else:
                machine.use(installed)

    def withdraw(self, sockets: Iterable[socket.socket]) -> None:
        """Leave these sockets alone, before they are closed: what a server kept of them would go on waking the loop."""
        for machine in [self._machines.pop(sock) for sock in sockets if sock in self._machines]:
            machine.withdraw()

    def misplaced(
        self, wanted: Iterable[tuple[InstalledService, socket.socket]], removed: Iterable[InstalledService]
    ) -> list[int]:
        """Pids of servers whose socket is not wanted any more or is another service's now: they would go on serving it.
        Those of services that are removed are told with everything else of theirs (supervisor/removals.py)."""
        kept = {(installed.row, sock) for installed, sock in wanted}
        gone = {installed.row for installed in removed}
        return [
            pid for machine in self._machines.values() for pid in machine.servers
            if (machine.installed.row, machine.sock) not in kept and machine.installed.row not in gone
        ]  # fmt: skip

    def held(self) -> set[int]:
        """Rows of which a socket is left to its servers alone."""
        return {machine.installed.row for machine in self._machines.values() if machine.state is State.FULL}
