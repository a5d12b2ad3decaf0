"""The daemon's state for a dump, taken from the parts of the supervisor and written by dump.py."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fastinetd import __version__
from fastinetd.control.dump import DumpState, ServerLine, ServiceLine, ServiceState, render_dump, write_dump
from fastinetd.core.board import Board
from fastinetd.logs.service_log import ServiceLog
from fastinetd.pools.pool import HeldAt
from fastinetd.pools.system_calls import held_call
from fastinetd.services.installed import InstalledService, InstalledServices
from fastinetd.services.listeners import Listeners
from fastinetd.services.wait_services import WaitServices
from fastinetd.system.processes import count_own_descriptors


@dataclass(frozen=True)
class DumpSources:
    """The parts of the supervisor from which the daemon's state is taken."""

    board: Board
    services: InstalledServices
    listeners: Listeners
    wait_services: WaitServices
    log: ServiceLog
    roles: Sequence[tuple[str, int]]  # title and pid of each role's process
    config_file: str
    process_limit: int | None


def dump_state(sources: DumpSources, path: str) -> None:
    """Write the daemon's state to the file `path`, in place of the last dump. Raises OSError."""
    write_dump(path, render_dump(take_snapshot(sources)))


def take_snapshot(sources: DumpSources) -> DumpState:
    """The daemon's present state. Raises OSError."""
    board = sources.board
    wall = time.time() - time.monotonic()  # slots have times of CLOCK_MONOTONIC
    services = [_service_line(sources, installed) for installed in sources.services]
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
        descriptors_free=most - count_own_descriptors(),
        lost_records=sources.log.lost,
    )


def _service_line(sources: DumpSources, installed: InstalledService) -> ServiceLine:
    """The present state of a service."""
    board, planned = sources.board, installed.planned
    sockets = sources.listeners.sockets_of_service(planned)
    state = ServiceState.ACTIVE if sockets else ServiceState.NOT_STARTED
    taken = installed.row in sources.wait_services.rows_left_to_servers()
    if taken or board.row_closed(installed.row) or board.rate_wait(installed.row) > 0:
        state = ServiceState.SUSPENDED
    counters = board.counters(installed.row)
    return ServiceLine(
        planned.service,
        state,
        running=board.row_live(installed.row),
        port=planned.endpoints[0].port or None,
        descriptors=tuple(sock.fileno() for sock in sockets),
        ids=planned.exec_context.ids,
        refused=planned.refused,
        waits=counters.rate_waits,
        waited=counters.rate_wait_ns / 1e9,
        awaits_rate=board.row_awaits_rate(installed.row),
        held=tuple(
            (count, HeldAt(point).name.lower(), held_call(point, call))
            for (point, call), count in sorted(board.held(installed.row).items())
            if point < len(HeldAt)
        ),
    )
