"""Bytes through a started program: cat sends 4 MB back. The super-server has no part in it, and this
shows that it has none: the connection is the program's own."""

from __future__ import annotations

from bench.load import Drive
from bench.scenario import Bench, Case, Column

SUMMARY = "4 MB to cat and back, 4 clients at a time"
COLUMNS = (Column("mb_s", "MB/s"), Column("rate", "conn/s"), Column("cpu_us", "CPU us/conn"))
BASELINE = "reference"
TARGETS = ()
BYTES = 4_000_000


def cases(bench: Bench) -> dict[str, Case]:
    def case(name: str) -> Case:
        return lambda: bench.rate(name, bench.services(1, "cat"), Drive(bulk=BYTES, at_once=4))

    return {name: case(name) for name in bench.peers}
