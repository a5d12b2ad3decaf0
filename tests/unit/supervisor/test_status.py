"""What others see of the supervisor: which services do not listen."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

from fastinetd.core.board import Board
from fastinetd.plan.model import Endpoint
from fastinetd.services.installed import InstalledService
from fastinetd.supervisor.status import Status
from fastinetd.system.loop import Loop
from fastinetd.system.notify import Notifier
from support.core import close_loop, open_row, program, until
from support.waiting import planned

MANY = 300


class InstalledServices:
    """The supervisor's services; how often they were gone through."""

    def __init__(self, services: list[InstalledService]) -> None:
        self.services = services
        self.times = 0

    def __iter__(self) -> Iterator[InstalledService]:
        self.times += 1
        return iter(self.services)


class Listeners:
    """Nothing is open."""

    changed: Callable[[], None]

    def sockets_of(self, endpoint: Endpoint) -> list[socket.socket]:
        return []

    def errno_of(self, endpoint: Endpoint) -> int:
        return errno.EADDRNOTAVAIL


def test_many_that_do_not_listen_are_looked_at_together() -> None:
    """An address with hundreds of services is gone: each of its endpoints says so, and all are gone through once."""
    board, loop, listeners = Board.create(MANY, 4, 1), Loop(lambda text: None), Listeners()
    installed = []
    for number in range(MANY):
        row = open_row(board)
        endpoint = Endpoint(socket.AF_INET, socket.SOCK_STREAM, "192.0.2.1", 7000 + number)
        installed.append(InstalledService(row, replace(planned(1), endpoints=(endpoint,)), program(row)))
    services = InstalledServices(installed)
    Status(board, loop, services, listeners, Notifier({}))  # type: ignore[arg-type]
    for _ in range(2):
        services.times = 0
        for _ in installed:
            listeners.changed()
        until(loop, lambda: services.times, "they are looked at")
        assert services.times == 1
    assert {board.row_deaf(each.row) for each in installed} == {(0, errno.EADDRNOTAVAIL)}
    close_loop(loop)
    os.close(board.fd)
