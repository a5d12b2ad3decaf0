"""What a generation serves, and which of it each acceptor does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastinetd.core.program import Program
from fastinetd.monitor.metrics import ServiceInfo
from fastinetd.monitor.readiness import Unserved
from fastinetd.policy.access import AccessTable
from fastinetd.pools.pool import acceptors_of


@dataclass(frozen=True)
class Duties:
    """What a generation serves."""

    acceptors: int
    programs: Sequence[tuple[int, Program]]  # listener, program: for the acceptors
    builtins: Sequence[tuple[int, Program]]  # for the relay
    tables: dict[int, AccessTable]  # rows whose clients' names decide
    asks_itself: bool  # the supervisor has such rows: wait services
    services: Sequence[ServiceInfo]
    unserved: Sequence[Unserved]
    library: int  # that holds programs; -1: no service needs it
    metrics: int | None  # the metrics listener
    reader: int  # the Board, open for reading only
    version: str


def programs_of(number: int, count: int, programs: Sequence[tuple[int, Program]]) -> Sequence[tuple[int, Program]]:
    """What one of `count` acceptors serves; where not all serve a service, which of them do goes by its row."""
    return [
        (listener, program)
        for listener, program in programs
        if (number + program.row) % count < acceptors_of(program.kind, count)
    ]
