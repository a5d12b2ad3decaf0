"""The daemon's state for a dump: gathered from the supervisor, written by dump.py."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from typing import Protocol

from fastinetd import __version__
from fastinetd._board import Board
from fastinetd._pools import HeldAt
from fastinetd.dump import DumpState, ServerLine, ServiceLine, ServiceState, render, write_dump
from fastinetd.generation import Generation
from fastinetd.journal import Journal
from fastinetd.listeners import Listeners
from fastinetd.rows import Rows
from fastinetd.system_calls import held_call
from fastinetd.wait_services import WaitServices


class StartOptions(Protocol):
    """How the daemon was started."""

    @property
    def source(self) -> str: ...
    @property
    def process_limit(self) -> int | None: ...


class Daemon(Protocol):
    """What is asked of the supervisor, which is above this module."""

    @property
    def options(self) -> StartOptions: ...

    board: Board
    rows: Rows
    listeners: Listeners
    waiting: WaitServices
    journal: Journal

    @property
    def generations(self) -> Iterable[Generation]: ...


def dump_state(supervisor: Daemon, path: str) -> None:
    """Write the supervisor's state to the file `path`, in place of the last dump. Raises OSError."""
    write_dump(path, render(gather(supervisor)))


def gather(supervisor: Daemon) -> DumpState:
    """What the supervisor knows now."""
    board = supervisor.board
    wall = time.time() - time.monotonic()
    services = []
    for installed in supervisor.rows:
        service = installed.planned.service
        sockets = [sock for endpoint in installed.planned.endpoints for sock in supervisor.listeners.of(endpoint)]
        state = ServiceState.ACTIVE if sockets else ServiceState.NOT_STARTED
        held = installed.row in supervisor.waiting.held()  # its servers have the socket to themselves
        if held or board.row_closed(installed.row) or board.rate_wait(installed.row) > 0:
            state = ServiceState.SUSPENDED
        port = installed.planned.endpoints[0].port or None
        descriptors = tuple(sock.fileno() for sock in sockets)
        ids, refused = installed.planned.start.ids, installed.planned.refused
        places = tuple(
            (count, HeldAt(point).name.lower(), held_call(point, call))
            for (point, call), count in sorted(board.held(installed.row).items())
            if point < len(HeldAt)
        )
        counters = board.counters(installed.row)
        services.append(
            ServiceLine(
                service, state, board.row_live(installed.row), port, descriptors, ids, refused,
                counters.rate_waits, counters.rate_wait_seconds, board.row_holds(installed.row), places,
            )
        )  # fmt: skip
    names = {row: installed.planned.id for row, installed in supervisor.rows.by_row.items()}
    servers = tuple(
        ServerLine(names.get(slot.row, "?"), slot.pid, wall + slot.started, slot.address, slot.port)
        for slot in board.slots_in_use()
    )
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return DumpState(
        version=__version__,
        now=time.time(),
        config_file=supervisor.options.source,
        services=tuple(services),
        servers=servers,
        roles=tuple((role.title, role.pid) for each in supervisor.generations for role, _ in each.roles.values()),
        process_limit=supervisor.options.process_limit,
        max_descriptors=most,
        descriptors_free=most - len(os.listdir("/proc/self/fd")),
        lost_records=supervisor.journal.lost,
    )
