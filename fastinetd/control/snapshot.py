"""The daemon's state for a dump: gathered here from all who know of it, written by dump.py."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastinetd import __version__
from fastinetd.control.dump import DumpState, ServerLine, ServiceLine, ServiceState, render, write_dump
from fastinetd.core.board import Board
from fastinetd.logs.service_log import ServiceLog
from fastinetd.pools.pool import HeldAt
from fastinetd.pools.system_calls import held_call
from fastinetd.services.installed import InstalledServices
from fastinetd.services.listeners import Listeners
from fastinetd.services.wait_services import WaitServices


@dataclass(frozen=True)
class Sources:
    """Whom the daemon's state is asked of."""

    board: Board
    services: InstalledServices
    listeners: Listeners
    wait_services: WaitServices
    log: ServiceLog
    roles: Sequence[tuple[str, int]]  # title and pid of each role's process
    config_file: str
    process_limit: int | None


def dump_state(sources: Sources, path: str) -> None:
    """Write the daemon's state to the file `path`, in place of the last dump. Raises OSError."""
    write_dump(path, render(gather(sources)))


def gather(sources: Sources) -> DumpState:
    """The daemon's state now."""
    board = sources.board
    wall = time.time() - time.monotonic()
    services = []
    for installed in sources.services:
        service = installed.planned.service
        sockets = sources.listeners.sockets_of_service(installed.planned)
        state = ServiceState.ACTIVE if sockets else ServiceState.NOT_STARTED
        taken = installed.row in sources.wait_services.rows_left_to_servers()
        if taken or board.row_closed(installed.row) or board.rate_wait(installed.row) > 0:
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
                counters.rate_waits, counters.rate_wait_ns / 1e9, board.row_holds(installed.row), places,
            )
        )  # fmt: skip
    names = {row: installed.planned.id for row, installed in sources.services.by_row.items()}
    servers = tuple(
        ServerLine(names.get(slot.row, "?"), slot.pid, wall + slot.started, slot.address, slot.port)
        for slot in board.slots_in_use()
    )
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return DumpState(
        version=__version__,
        now=time.time(),
        config_file=sources.config_file,
        services=tuple(services),
        servers=servers,
        roles=tuple(sources.roles),
        process_limit=sources.process_limit,
        max_descriptors=most,
        descriptors_free=most - len(os.listdir("/proc/self/fd")),
        lost_records=sources.log.lost,
    )
