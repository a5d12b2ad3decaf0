"""The wait of a client when the machine is not full and the process that will serve it exists already.

The clock of the target starts at connect(), that of "due" when the connection should have begun: the second
includes the generator's own waking up, which is the same for all and no server's doing.
"""

from __future__ import annotations

from bench import pooled
from bench.load import Drive
from bench.scenario import RATE_COLUMNS, Bench, Case, Column, Target

SUMMARY = "200 connections per second, a C program each: connect to first byte"
COLUMNS = (
    Column("answer_p50", "first p50 ms", 3, 1e-3),
    Column("answer_p99", "p99 ms", 2, 1e-3),
    Column("first_p50", "since due p50 ms", 3, 1e-3),
    Column("cpu_us", "CPU us/conn"),
    RATE_COLUMNS[0],
    pooled.SHARE,
)
BASELINE = "fastinetd, exec"
TARGETS = (Target("fastinetd, prefork", "answer_p50", at_most=0.30, over="fastinetd, exec"),)
SPAWNS = {"exec": {}, "zygote": pooled.ZYGOTE, "prefork": pooled.PREFORK}
CONTENDERS = ("reference", "xinetd")
PACE = Drive(pace=200, at_once=1000)


def cases(bench: Bench) -> dict[str, Case]:
    def pool(attributes: dict[str, str]) -> Case:
        return lambda: pooled.measure_rate(bench, "hello", attributes, PACE)

    def peer(name: str) -> Case:
        return lambda: bench.rate(name, bench.services(1), PACE)

    if "fastinetd" not in bench.peers:
        return {}
    own = {f"fastinetd, {spawn}": pool(attributes) for spawn, attributes in SPAWNS.items()}
    return own | {name: peer(name) for name in CONTENDERS if name in bench.peers}
