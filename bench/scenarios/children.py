"""Do servers that are running slow down the starting of the next? 5,000 of them, doing nothing."""

from __future__ import annotations

from bench.load import Sample, hold_connections
from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "the same rate with 0 and with 5,000 idle servers alive"
COLUMNS = RATE_COLUMNS
BASELINE = "fastinetd, 0"
TARGETS = (Target("fastinetd, 5000", "rate", at_least=0.85, over="fastinetd, 0"),)


def cases(bench: Bench) -> dict[str, Case]:
    def loaded(alive: int) -> Sample:
        services = [*bench.services(1, "idle"), *bench.services(1)]
        with bench.server("fastinetd", services) as server:
            if not alive:
                return bench.drive(server, services[-1])
            with hold_connections(services[0].port, alive):
                return bench.drive(server, services[-1])

    if "fastinetd" not in bench.peers:
        return {}
    return {"fastinetd, 0": lambda: loaded(0), "fastinetd, 5000": lambda: loaded(5000)}
