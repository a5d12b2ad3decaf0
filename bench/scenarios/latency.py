"""The wait of a client when the machine is not full: connections arrive at a fixed pace.

The pace is about a tenth of what two cores can start. A connection's clock starts when it was due,
so a server that falls behind cannot hide it.
"""

from __future__ import annotations

from bench.load import Drive
from bench.scenario import RATE_COLUMNS, Bench, Case, Column

SUMMARY = "200 connections per second, a program each, user nobody"
COLUMNS = (*RATE_COLUMNS[1:3], Column("first_max", "max ms", 2, 1e-3), *RATE_COLUMNS[3:], RATE_COLUMNS[0])
BASELINE = "reference"
TARGETS = ()


def cases(bench: Bench) -> dict[str, Case]:
    def case(name: str) -> Case:
        return lambda: bench.rate(name, bench.services(1), Drive(pace=200, at_once=1000))

    return {name: case(name) for name in bench.peers}
