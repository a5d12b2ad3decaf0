"""Does the supervisor's own size matter? fork() copies page tables; starting a server must not."""

from __future__ import annotations

from bench.load import Sample
from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "the same rate with 200 MB more in the supervisor's memory"
COLUMNS = RATE_COLUMNS
BASELINE = "0 MB"
TARGETS = (Target("200 MB", "rate", at_least=0.95, over="0 MB"),)


def cases(bench: Bench) -> dict[str, Case]:
    def weighed(megabytes: int) -> Sample:
        services = bench.services(1)
        env = {"FASTINETD_BENCH_BALLAST_MB": str(megabytes)}
        with bench.server("fastinetd", services, module="bench.ballast", env=env) as server:
            return bench.drive(server, services[0])

    if "fastinetd" not in bench.peers:
        return {}
    return {"0 MB": lambda: weighed(0), "200 MB": lambda: weighed(200)}
