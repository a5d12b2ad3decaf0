"""Do processes that wait cost the connections of others anything? Thousands of idle servers, or of children forked
ahead, beside a service that starts its program by exec; and a pool that is that large itself."""

from __future__ import annotations

from bench import limits, pooled
from bench.load import Sample, hold_connections
from bench.scenario import RATE_COLUMNS, Bench, Case, Column, Target

SUMMARY = "the same rate beside 10,000 idle servers or parked children"
COLUMNS = (RATE_COLUMNS[0], Column("alive", "waiting"), *RATE_COLUMNS[1:], pooled.SHARE)
BASELINE = "exec, none waiting"
TARGETS = (
    Target("exec, beside idle", "rate", at_least=0.95, over="exec, none waiting"),
    Target("exec, beside parked", "rate", at_least=0.95, over="exec, none waiting"),
    Target("prefork, of many", "rate", at_least=0.95, over="prefork, of few"),
)
WANTED, FEW = 10_000, 64
QUICK = 1000  # when measurements are shorter than a second and a half


def base(case: str) -> str:
    """The case that *case* is compared with: a pool with a pool."""
    return "prefork, of few" if case.startswith("prefork") else BASELINE


def crowd(bench: Bench) -> tuple[int, str]:
    """How many processes wait, and why not more."""
    if bench.seconds < 1.5:
        return QUICK, f"{QUICK:,} processes in place of {WANTED:,}: a quick run"
    return limits.processes_allowed(WANTED)


def notes(bench: Bench) -> list[str]:
    """A line for the record where fewer processes wait than were wanted."""
    return [line for line in [crowd(bench)[1]] if line]


def parking(count: int) -> dict[str, str]:
    """The attributes of a pool that keeps *count* children parked."""
    return pooled.PREFORK | {"min_spare": str(count), "max_spare": str(count)}


def cases(bench: Bench) -> dict[str, Case]:
    count, _ = crowd(bench)

    def alone() -> Sample:
        return pooled.measure_rate(bench, "hello", {}) | {"alive": 0}

    def beside_idle() -> Sample:
        services = [*bench.services(1, "idle"), *bench.services(1)]
        with pooled.run_daemon(bench, services) as daemon, hold_connections(services[0].port, count):
            return bench.drive(daemon.server, services[1]) | {"alive": count}

    def beside_parked() -> Sample:
        parked, other = [*bench.services(1, attributes=parking(count)), *bench.services(1)]
        with pooled.run_daemon(bench, [parked, other]) as daemon:
            alive = daemon.await_ready(parked, count * 99 // 100).ready  # acceptors share it, and may round it
            return bench.drive(daemon.server, other) | {"alive": alive}

    def from_pool(spare: int) -> Sample:
        (service,) = bench.services(1, attributes=parking(spare))
        with pooled.run_daemon(bench, [service]) as daemon:
            alive = daemon.await_ready(service, spare * 99 // 100).ready
            return daemon.drive(bench, service) | {"alive": alive}

    if "fastinetd" not in bench.peers:
        return {}
    return {
        "exec, none waiting": alone,
        "exec, beside idle": beside_idle,
        "exec, beside parked": beside_parked,
        "prefork, of few": lambda: from_pool(FEW),
        "prefork, of many": lambda: from_pool(count),
    }
