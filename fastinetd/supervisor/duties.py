"""What a generation serves, and which part of that each acceptor serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    programs: Mapping[str, Sequence[tuple[int, Program]]]  # kind of a role that accepts clients -> listener, program
    tables: dict[int, AccessTable]  # rows whose clients' names decide
    asks_itself: bool  # wait services have such rows: the supervisor itself asks the doorman
    services: Sequence[ServiceInfo]
    unserved: Sequence[Unserved]
    library: int  # descriptor of the library that holds programs; -1: no service needs it
    metrics: int | None  # the metrics listener
    reader: int  # the Board, open for reading only
    version: str


def programs_of(number: int, count: int, programs: Sequence[tuple[int, Program]]) -> Sequence[tuple[int, Program]]:
    """The programs that acceptor `number` of `count` serves. Where only some acceptors serve a service, its row decides
    which."""
    return [
        (listener, program)
        for listener, program in programs
        if (number + program.row) % count < acceptors_of(program.kind, count)
    ]
