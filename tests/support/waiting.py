"""A supervisor's parts, as far as the machines of wait services need them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from fastinetd.config.model import Place, Service
from fastinetd.core.board import Board
from fastinetd.core.exec_context import ExecContext
from fastinetd.core.keeper import Keeper
from fastinetd.core.program import Ranges
from fastinetd.doorman.protocol import Subject
from fastinetd.plan.model import Mode, PlannedService, SocketOptions
from fastinetd.policy.access import AccessTable
from fastinetd.services.children import Children
from fastinetd.services.installed import InstalledService
from fastinetd.services.wait import WaitSocket
from fastinetd.services.wait_services import WaitServices
from fastinetd.system.loop import Loop
from support.core import close_loop, has_children, open_row, program, until


def planned(share: int) -> PlannedService:
    service = Service("x", "x", Place("x.conf", 1), socket_type="dgram", wait=True, instances=share)
    start = ExecContext(b"", ())
    return PlannedService(service, Mode.WAIT, (), SocketOptions(), start, AccessTable(), (0, 0), 0, 0)

ANSWER = "import socket; s = socket.socket(fileno=0); d, a = s.recvfrom(999); s.sendto(b'got ' + d, a)"
"""Code of a server that answers one datagram."""


class DoormanClient:
    """A doorman's client whose answers the test gives."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes, Callable[[bool | None], None]]] = []

    def ask(self, subject: Subject, callback: Callable[[bool | None], None]) -> None:
        self.asked.append((*subject, callback))


class Kit:
    """The parts, and what was asked of whom."""

    def __init__(self) -> None:
        self.board = Board.create(4, 16, 2)
        self.troubles: list[str] = []
        self.loop = Loop(self.troubles.append)
        self.keeper = Keeper(self.board, self.board.section_claim(os.getpid()))
        services = SimpleNamespace(program_of=lambda row: None)
        journal = SimpleNamespace(read=self.board.take_records)
        self.children = Children(self.board, self.loop, self.keeper, services, journal)  # type: ignore[arg-type]
        self.questions = DoormanClient()
        self.spoilt: list[socket.socket] = []
        self.said: list[str] = []
        self.loop.on_signal(signal.SIGCHLD, self.children.reap)
        self.services = WaitServices(
            self.board, self.loop, self.keeper, self.children, self.questions,  # type: ignore[arg-type]
            SimpleNamespace(sockets_beside=lambda sock: [sock], renew=self.spoilt.append),  # type: ignore[arg-type]
            SimpleNamespace(warning=self.said.append),  # type: ignore[arg-type]
        )
        self.sockets: list[socket.socket] = []

    def machine(
        self, *argv: str, kind: int = socket.SOCK_DGRAM, ranges: Ranges | None = None, share: int = 1,
        **limits: Any,
    ) -> WaitSocket:
        sock = socket.socket(socket.AF_INET, kind)
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        self.sockets.append(sock)
        row = open_row(self.board, **limits)
        installed = InstalledService(row, planned(share), program(row, *argv, ranges=ranges))
        self.services.serve([*((m.installed, m.sock) for m in self.services), (installed, sock)])
        return next(machine for machine in self.services if machine.sock is sock)

    def until(self, condition: Callable[[], object]) -> None:
        until(self.loop, condition, self.troubles)

    def close(self) -> None:
        self.services.serve([])
        for slot in self.board.slots_in_use():
            os.kill(slot.pid, signal.SIGKILL)
        self.until(lambda: not self.board.slots_in_use())
        assert self.troubles == []
        assert not has_children()
        assert self.board.live == 0
        for sock in self.sockets:
            sock.close()
        close_loop(self.loop)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.board.fd)
