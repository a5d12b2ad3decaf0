"""The large installation: 1,000 services, 2,000 servers running, and new connections coming in.

The reference has one service and nothing running beside it: what the kernel charges for a start in the best
case, which no super-server can pass, however well it copes with the crowd.
"""

from __future__ import annotations

from dataclasses import replace

from bench.load import Sample, hold_connections
from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "1,000 services and 2,000 running servers"
COLUMNS = RATE_COLUMNS
BASELINE = "xinetd"
TARGETS = (
    Target("fastinetd", "rate", at_least=3.0, over="xinetd"),
    Target("fastinetd", "rate", at_least=0.90, over="reference"),
)
SERVICES, RUNNING = 1000, 2000
CONTENDERS = ("fastinetd", "xinetd", "inetd")


def cases(bench: Bench) -> dict[str, Case]:
    def case(name: str) -> Case:
        def measure() -> Sample:
            services = bench.services(SERVICES, "idle")
            services[-1] = replace(services[-1], program=bench.programs["hello"])
            with bench.server(name, services) as server, hold_connections(services[0].port, RUNNING, SERVICES - 1):
                return bench.drive(server, services[-1])

        return measure

    found = {name: case(name) for name in CONTENDERS if name in bench.peers}
    return found | {"reference": lambda: bench.rate("reference", bench.services(1))}
