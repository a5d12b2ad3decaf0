"""Measuring a service that fastinetd serves from a pool, and making sure that it was the pool that served."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.load import Drive, Sample
from bench.metrics import Pool, await_ready_processes, read_pool
from bench.scenario import PLAIN, Bench, Column
from bench.servers import Server, ServerError, Service, find_free_ports

ZYGOTE = {"spawn": "zygote"}
FIRST_IO = {"spawn": "zygote", "snapshot": "first_io"}
PREFORK = {"spawn": "prefork"}
WORKER = {"spawn": "worker"}

SHARE = Column("pooled", "by pool %", 1, 100)


@dataclass(frozen=True)
class Daemon:
    """A running fastinetd with the port of its metrics."""

    server: Server
    metrics: int

    def await_ready(self, service: Service, count: int = 1) -> Pool:
        """Wait for so many ready processes of the service's pool."""
        return await_ready_processes(self.server, self.metrics, service.name, count)

    def drive(self, bench: Bench, service: Service, drive: Drive = PLAIN) -> Sample:
        """One measured run; *pooled* of the sample is the share of connections that the pool served.
        Raises ServerError when it served none, or by a program that is held before its first use of the connection:
        a share of 100 per cent says nothing of what was gained."""
        before = read_pool(self.metrics, service.name)
        sample = bench.drive(self.server, service, drive)
        after = read_pool(self.metrics, service.name)
        hits, misses = after.hits - before.hits, after.misses - before.misses
        if not hits:
            raise ServerError(f"the pool served none of {misses} connections: {self.server.last_words()}")
        if after.early:
            raise ServerError(f"the program is held early, at {', '.join(after.early)}: not what first_io is meant for")
        return sample | {"pooled": hits / (hits + misses)}


@contextlib.contextmanager
def run_daemon(bench: Bench, services: Sequence[Service]) -> Iterator[Daemon]:
    """fastinetd with its metrics, until the block ends."""
    (port,) = find_free_ports(1)
    with bench.server("fastinetd", services, options=("--metrics", f"127.0.0.1:{port}")) as server:
        yield Daemon(server, port)


def measure_rate(bench: Bench, program: str, attributes: Mapping[str, str], drive: Drive = PLAIN) -> Sample:
    """As Bench.rate, for a service of fastinetd with *attributes*; without them it is served by exec."""
    (service,) = bench.services(1, program, attributes=attributes)
    with run_daemon(bench, [service]) as running:
        if "spawn" not in attributes:
            return bench.drive(running.server, service, drive)
        running.await_ready(service)
        return running.drive(bench, service, drive)
