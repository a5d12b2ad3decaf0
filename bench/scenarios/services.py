"""Does a long configuration cost anything once it is read? Load on the last of 1,000 services."""

from __future__ import annotations

from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "the same rate with 1 and with 1,000 services configured"
COLUMNS = RATE_COLUMNS
BASELINE = "fastinetd, 1"
TARGETS = (Target("fastinetd, 1000", "rate", at_least=0.90, over="fastinetd, 1"),)
CONTENDERS = ("fastinetd", "xinetd", "inetd")


def cases(bench: Bench) -> dict[str, Case]:
    def case(name: str, count: int) -> Case:
        return lambda: bench.rate(name, bench.services(count))

    return {f"{name}, {count}": case(name, count) for name in CONTENDERS if name in bench.peers for count in (1, 1000)}
