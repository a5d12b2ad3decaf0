"""What others see of the supervisor: which services do not listen."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

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

    def __len__(self) -> int:
        return len(self.services)

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


def test_without_memory_to_count_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service manager hears that the daemon serves, and the Board has the rest."""
    board, loop = Board.create(1, 4, 1), Loop(lambda text: None)
    sent: list[str] = []
    notifier = SimpleNamespace(send_ready=sent.append, send_reloading=lambda: sent.append("reloading"))
    services = InstalledServices([])
    monkeypatch.setattr("fastinetd.supervisor.status.setproctitle", lambda title: None)
    monkeypatch.setattr("fastinetd.supervisor.status.setthreadtitle", lambda name: None)
    status = Status(board, loop, services, Listeners(), notifier)  # type: ignore[arg-type]
    status.serving()
    before = board.status()
    assert before["descriptors"] > 0
    assert before["reload_ok"]
    monkeypatch.setattr(os, "listdir", lacking_memory)
    status.reloading()
    status.serving()
    assert board.status() == {**before, "reload_ok": False}
    assert sent == ["0 services", "reloading", "0 services; the last reload was refused, as the log says why"]
    close_loop(loop)
    os.close(board.fd)


def lacking_memory(path: str) -> list[str]:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), path)


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
