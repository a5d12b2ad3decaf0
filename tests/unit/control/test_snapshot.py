"""The daemon's state, gathered for a dump."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd import __version__
from fastinetd.config.model import Place, Rate, Service
from fastinetd.control.dump import ServiceState
from fastinetd.control.snapshot import dump_state, take_snapshot
from fastinetd.core.board import Board
from fastinetd.plan.model import Endpoint
from fastinetd.services.installed import InstalledService
from support.accounts import Accounts
from support.core import HOUR, program, set_limits

ENDPOINT = Endpoint(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", 7000)


@pytest.fixture
def sources() -> Iterator[Any]:
    """As much of them as is asked."""
    board = Board.create(2, 8, 1)
    row = board.row_claim()
    set_limits(board, row, rate_count=2, rate_period=2 * HOUR)
    board.row_times(row, 0, 2**62)
    board.row_enable(row, True)
    service = Service("web", "web-1", Place("x.conf", 1), server="/bin/true", argv=("true",), rate=Rate(2, 7200.0))
    context = SimpleNamespace(ids=(1234, 1234))
    planned: Any = SimpleNamespace(
        service=service, endpoints=(ENDPOINT,), id="web-1", exec_context=context, refused="static"
    )
    installed = InstalledService(row, planned, program(row))

    class InstalledServices(list[InstalledService]):
        def __init__(self) -> None:
            super().__init__([installed])
            self.by_row = {row: installed}

    open_sockets = [socket.socket()]
    yield SimpleNamespace(
        board=board, services=InstalledServices(),
        listeners=SimpleNamespace(sockets_of_service=lambda planned: open_sockets),
        roles=[("acceptor 1", 77)], config_file="x.conf", process_limit=9, log=SimpleNamespace(lost=3),
        open_sockets=open_sockets, installed=installed, wait_services=SimpleNamespace(rows_left_to_servers=set),
    )  # fmt: skip
    for one in open_sockets:
        one.close()
    os.close(board.fd)


def test_gathered(sources: Any) -> None:
    state = take_snapshot(sources)
    (service,) = state.services
    assert (service.service.id, service.state, service.port) == ("web-1", ServiceState.ACTIVE, 7000)
    assert service.descriptors == (sources.open_sockets[0].fileno(),)
    assert state.version == __version__
    assert state.config_file == "x.conf"
    assert state.roles == (("acceptor 1", 77),)
    assert (state.process_limit, state.lost_records, state.servers) == (9, 3, ())
    assert 0 < state.descriptors_free < state.max_descriptors


def test_servers(sources: Any) -> None:
    accounts = Accounts(sources.board, 0)
    slot = accounts.admit(sources.installed.program, bytes([10, 0, 0, 1]), 4000)[1]
    (server,) = take_snapshot(sources).servers
    assert (server.address, server.port) == ("10.0.0.1", 4000)
    assert take_snapshot(sources).services[0].running == 1
    accounts.drop(slot)


def test_states(sources: Any) -> None:
    accounts = Accounts(sources.board, 0)
    for _ in range(2):  # the rate's whole count
        accounts.admit(sources.installed.program, bytes([10, 0, 0, 1]))
    assert take_snapshot(sources).services[0].state is ServiceState.SUSPENDED
    set_limits(sources.board, sources.installed.row)
    assert take_snapshot(sources).services[0].state is ServiceState.ACTIVE
    sources.wait_services.rows_left_to_servers = lambda: {sources.installed.row}
    assert take_snapshot(sources).services[0].state is ServiceState.SUSPENDED
    sources.wait_services.rows_left_to_servers = set
    sources.open_sockets.pop().close()
    assert take_snapshot(sources).services[0].state is ServiceState.NOT_STARTED


def test_written(sources: Any, tmp_path: Any) -> None:
    path = tmp_path / "dump"
    dump_state(sources, str(path))
    assert "web-1" in path.read_text()
