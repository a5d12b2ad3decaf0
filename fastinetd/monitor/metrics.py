"""The metrics page: one table of metrics, and a prometheus-client collector that reads them off the Board.

Theory. The processes that serve count on the Board; nothing is counted here and nothing is kept between two pages. A
page is one pass over the rows: services that share an id are summed, then each entry of METRICS makes its samples of
each service. Every sample that a service can ever have is on the first page, at 0, so that a rate() over it starts
at 0. Labels are the service's id and words from fixed lists: never bytes or addresses of clients.

Rules of this file
 - METRICS is the only place that names a metric; docs/metrics.md is written from it (manual/metrics).
 - The Board is only read, and one counter may be newer than another.
 - All that a page needs is imported with this module: its process may not be able to read the program's files.
"""

from __future__ import annotations

import gc
import gzip
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from fastinetd.core.board import Board
from fastinetd.core.counters import ERRNO_NAMES, LATENCY_BOUNDS, SESSION_BOUNDS
from fastinetd.core.layout import REFUSALS, Method, Status
from fastinetd.core.records import CounterSums
from fastinetd.monitor.http import Answer, accepts_gzip
from fastinetd.pools.pool import HeldAt, PoolState, Recycling
from fastinetd.pools.system_calls import held_call
from fastinetd.system.processes import descriptor_limit

REASON_LABELS = tuple((refusal.name.lower(), refusal.value) for refusal in REFUSALS)
"""The label values of refusals, each with its index in CounterSums.rejected."""

STATUS_LABELS = tuple((s.name.lower(), s.value) for s in Status)
"""The label values of servers' ends, each with its index in CounterSums.exits."""

METHOD_LABELS = {m.name.lower(): m.value for m in Method}
"""The methods by which connections reach their servers, each with its index in CounterSums.latency."""

POOL_STATE_LABELS = tuple(("zygote" if s is PoolState.HOLDING else s.name.lower(), s.value) for s in PoolState)
"""The label values of a pool's processes, each with its index in CounterSums.pool."""

RECYCLING_LABELS = tuple((r.name.lower(), r.value) for r in Recycling)
"""The label values of reasons for which a pool gave up a process, each with its index in CounterSums.recycled."""

POINT_LABELS = tuple(point.name.lower() for point in HeldAt)
"""The label values of places where a program is held, in the order of HeldAt."""

_LATENCY_LE = (*map(floatToGoString, LATENCY_BOUNDS), "+Inf")
_SESSION_LE = (*map(floatToGoString, SESSION_BOUNDS), "+Inf")

Labels = tuple[str, ...]
"""Values of a metric's labels, or their names."""


class Histogram(NamedTuple):
    """A histogram as prometheus-client takes it: cumulative counts by upper bound, and the sum in seconds."""

    buckets: list[tuple[str, int]]
    total: float


Sample = tuple[Labels, float | Histogram]


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """The fields of a service that the monitor needs besides the Board.

    `row` is its row of the Board, `id` its name in metrics, `stream` whether its sockets are stream sockets. `methods`
    are those by which its connections reach servers: () for a built-in service, which has no latency, more than one
    with a pool. `inodes` are those of its listening sockets, `refused` is why it has no pool although it asks for one,
    `endpoints` are the texts of all its endpoints.
    """

    row: int
    id: str
    stream: bool
    methods: tuple[str, ...] = ("exec",)
    inodes: tuple[int, ...] = ()
    refused: str | None = None
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The numbers of a service, or of several with one id, for a page; `queue` is None without a stream socket."""

    counters: CounterSums
    live: int
    queue: int | None
    latency: Mapping[str, Histogram]  # by method
    pooled: bool  # the service asks for a pool
    refused: tuple[str, ...]
    held: Mapping[Labels, int]  # zygotes by point and system call


@dataclass(frozen=True, slots=True)
class Daemon:
    """The numbers of the daemon for a page; `status` is Board.status(), `depth` the records in the journals."""

    status: Mapping[str, Any]
    depth: int
    build: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A metric: name, type and labels as they are on the page, and its meaning.

    `of_service` returns its samples of a service, whose labels lack the first, `service`; `of_daemon` returns its one
    value of the daemon, None for no sample. An entry with neither is from prometheus-client's ProcessCollector.
    """

    name: str
    type: str  # counter, gauge, histogram or info
    labels: Labels
    help: str
    of_service: Callable[[Reading], Iterable[Sample]] | None = None
    of_daemon: Callable[[Daemon], Any] | None = None


METRICS = (
    Entry("fastinetd_connections_accepted_total", "counter", ("service",),
          "Connections and datagrams taken off the kernel's queue, those refused afterwards included.",
          lambda r: [((), r.counters.accepted)]),
    Entry("fastinetd_connections_rejected_total", "counter", ("service", "reason"),
          "Connections that were refused, by the rule that refused them.",
          lambda r: [((name,), r.counters.rejected[place]) for name, place in REASON_LABELS]),
    Entry("fastinetd_rate_waits_total", "counter", ("service",),
          "Connections (of wait services: starts) that had to wait because the rate of cps was used up: all that were "
          "accepted from the first that met with it until the queue was empty again.",
          lambda r: [((), r.counters.rate_waits)]),
    Entry("fastinetd_rate_wait_seconds_total", "counter", ("service",),
          "Time in which at least one client of the service had to wait for that.",
          lambda r: [((), r.counters.rate_wait_ns / 1e9)]),
    Entry("fastinetd_accept_queue_length", "gauge", ("service",),
          "Connections that the kernel holds until they are accepted; services with a stream socket only.",
          lambda r: [] if r.queue is None else [((), r.queue)]),
    Entry("fastinetd_datagram_activations_total", "counter", ("service",),
          "Servers started because a datagram (or a client of a service with wait = yes) was waiting.",
          lambda r: [((), r.counters.activations)]),
    Entry("fastinetd_spawn_latency_seconds", "histogram", ("service", "method"),
          "Time from the accepted connection to the running program, by method: exec (clone or posix_spawn), zygote "
          "(forked from the held program), prefork (forked before), worker (given to a running one).",
          lambda r: [((method,), found) for method, found in r.latency.items()]),
    Entry("fastinetd_spawn_failures_total", "counter", ("service", "errno"),
          "Servers that could not be started, by the error; `other` is any error without a value of its own.",
          lambda r: [((name,), r.counters.spawn_failures[place]) for place, name in enumerate(ERRNO_NAMES)]),
    Entry("fastinetd_children", "gauge", ("service",),
          "Servers that are running.",
          lambda r: [((), r.live)]),
    Entry("fastinetd_session_seconds", "histogram", ("service",),
          "Time from the start of a server to its end, observed at its end.",
          lambda r: [((), histogram_of(_SESSION_LE, r.counters.session, r.counters.session_ns / 1e9))]),
    Entry("fastinetd_child_exits_total", "counter", ("service", "status"),
          "Servers that ended: success is exit status 0, failure another one, signal a signal's doing; "
          "unknown ended while nobody watched.",
          lambda r: [((name,), r.counters.exits[place]) for name, place in STATUS_LABELS]),
    Entry("fastinetd_child_cpu_seconds_total", "counter", ("service", "mode"),
          "CPU time of servers that ended, with their waited-for children, in mode user or system.",
          lambda r: [(("user",), r.counters.user_us / 1e6), (("system",), r.counters.system_us / 1e6)]),
    Entry("fastinetd_pool_processes", "gauge", ("service", "state"),
          "Processes of the service's pool: zygotes, those that are starting, those that wait for a connection (parked "
          "children and idle workers) and busy workers.",
          lambda r: [((name,), r.counters.pool[place]) for name, place in POOL_STATE_LABELS] if r.pooled else []),
    Entry("fastinetd_pool_held", "gauge", ("service", "point", "call"),
          "Zygotes of the service's pool by where they are held: main, first_use (of the connection), early (at "
          "a system call whose effect a fork would not copy) or at_start (so early that nothing is gained over main).",
          lambda r: list(r.held.items())),
    Entry("fastinetd_pool_refused", "gauge", ("service", "reason"),
          "1 for a service that asks for a pool and gets none, by what keeps it from one; no sample for others.",
          lambda r: [((word,), 1) for word in r.refused]),
    Entry("fastinetd_pool_hits_total", "counter", ("service",),
          "Connections that the service's pool served as it should: by the zygote, a parked child or a worker.",
          lambda r: [((), r.counters.pool_hits)] if r.pooled else []),
    Entry("fastinetd_pool_misses_total", "counter", ("service",),
          "Connections that its pool could not serve so, and that were served by exec (or by the zygote, for want of a "
          "parked child); all of them where the pool was refused.",
          lambda r: [((), r.counters.pool_misses)] if r.pooled else []),
    Entry("fastinetd_pool_recycled_total", "counter", ("service", "reason"),
          "Processes that its pool gave up: after so many requests, for their age, their size (rss) or a connection's "
          "length (runtime), because they were too many (spare), because the program's file has changed, because they "
          "died, because they failed to start, hung or said what is not understood (mistrusted), or because they had "
          "used half of their limit of processor time (cpu).",
          lambda r: [((name,), r.counters.recycled[place]) for name, place in RECYCLING_LABELS] if r.pooled else []),
    Entry("fastinetd_journal_depth", "gauge", (),
          "Log records that are not yet taken out of the shared memory.",
          of_daemon=lambda d: d.depth),
    Entry("fastinetd_config_last_reload_successful", "gauge", (),
          "1 if the last start or reload took the configuration, 0 if it refused it and kept the one before.",
          of_daemon=lambda d: int(d.status["reload_ok"])),
    Entry("fastinetd_config_last_reload_success_timestamp_seconds", "gauge", (),
          "When a configuration was last taken, in Unix time.",
          of_daemon=lambda d: d.status["reload_time"]),
    Entry("fastinetd_build_info", "info", ("version", "python", "implementation", "machine"),
          "Always 1; its labels tell the version of fastinetd and what it runs on.",
          of_daemon=lambda d: d.build),
    Entry("process_cpu_seconds_total", "counter", (),
          "CPU time of the supervisor, user and system."),
    Entry("process_resident_memory_bytes", "gauge", (),
          "Resident memory of the supervisor."),
    Entry("process_virtual_memory_bytes", "gauge", (),
          "Virtual memory of the supervisor."),
    Entry("process_start_time_seconds", "gauge", (),
          "When the supervisor was started, in Unix time."),
    Entry("process_open_fds", "gauge", (),
          "Open file descriptors of the supervisor, as it last counted them itself.",
          of_daemon=lambda d: d.status["descriptors"]),
    Entry("process_max_fds", "gauge", (),
          "Most file descriptors that the supervisor may open.",
          of_daemon=lambda d: descriptor_limit(d.status["supervisor"])),
)


def histogram_of(bounds: Sequence[str], counts: Sequence[int], total: float) -> Histogram:
    """The Board's counts of each bucket as a histogram."""
    return Histogram(list(zip(bounds, accumulate(counts))), total)


def add_counters(parts: Sequence[CounterSums]) -> CounterSums:
    """The sums of the counters of several rows."""
    if len(parts) == 1:
        return parts[0]
    return CounterSums(*map(_add_values, zip(*parts)))


def _add_values(values: Sequence[Any]) -> Any:
    """The sum of numbers, or of tuples of one shape index by index."""
    return tuple(map(_add_values, zip(*values))) if isinstance(values[0], tuple) else sum(values)


def label_value(text: str) -> str:
    """A text of a configuration as the value of a label: bytes that are no UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def make_family(entry: Entry) -> Metric:
    """The metric family of prometheus-client for an entry, without samples."""
    if entry.type == "counter":
        return CounterMetricFamily(entry.name, entry.help, labels=entry.labels)
    if entry.type == "histogram":
        return HistogramMetricFamily(entry.name, entry.help, labels=entry.labels)
    if entry.type == "info":
        return InfoMetricFamily(entry.name.removesuffix("_info"), entry.help)
    return GaugeMetricFamily(entry.name, entry.help, labels=entry.labels)


class BoardCollector(Collector):
    """A collector of all METRICS.

    `board` is borrowed and only read; `queues` returns inode -> length of the accept queue, and is called once for
    each page. A socket that is not among them counts as empty.
    """

    def __init__(self, board: Board, services: Sequence[ServiceInfo], version: str,
                 queues: Callable[[], Mapping[int, int]]) -> None:
        self._board = board
        self._queues = queues
        self._groups: dict[str, list[ServiceInfo]] = {}
        for service in services:
            self._groups.setdefault(label_value(service.id), []).append(service)
        self._build = {
            "version": label_value(version), "python": platform.python_version(),
            "implementation": platform.python_implementation(), "machine": os.uname().machine,
        }
        self._process = ProcessCollector(pid=lambda: self._board.status()["supervisor"], registry=None)

    def collect(self) -> Iterator[Metric]:
        """The families of all metrics with their present samples, in the order of METRICS."""
        queues = self._queues()
        readings = [(id, self._read_services(group, queues)) for id, group in self._groups.items()]
        daemon = Daemon(self._board.status(), self._board.depth(), self._build)
        process = {found.name: found for found in self._process.collect()}
        for entry in METRICS:
            if entry.of_service is not None:
                yield self._fill_family(entry, entry.of_service, readings)
            elif entry.of_daemon is not None:
                value = entry.of_daemon(daemon)
                if value is not None:
                    made = make_family(entry)
                    made.add_metric((), value)  # type: ignore[attr-defined]
                    yield made
            elif (found := process.get(entry.name.removesuffix("_total"))) is not None:
                found.documentation = entry.help
                yield found

    def _read_services(self, group: Sequence[ServiceInfo], queues: Mapping[int, int]) -> Reading:
        """The present numbers of services that share an id."""
        counters = [self._board.counters(service.row) for service in group]
        total = add_counters(counters)
        latency = {
            method: histogram_of(_LATENCY_LE, total.latency[place], total.latency_ns[place] / 1e9)
            for method, place in METHOD_LABELS.items()
            if any(method in service.methods for service in group)
        }
        streams = [service for service in group if service.stream]
        queued = sum(queues.get(inode, 0) for service in streams for inode in service.inodes)
        live = sum(self._board.row_live(service.row) for service in group)
        refused = tuple(sorted({service.refused for service in group if service.refused}))
        pooled = bool(refused) or any(len(service.methods) > 1 for service in group)
        held: dict[Labels, int] = {}
        for service in group:
            for (point, call), count in self._board.held(service.row).items():
                if point < len(POINT_LABELS):
                    labels = POINT_LABELS[point], held_call(point, call)
                    held[labels] = held.get(labels, 0) + count
        return Reading(total, live, queued if streams else None, latency, pooled, refused, held)

    def _fill_family(self, entry: Entry, samples: Callable[[Reading], Iterable[Sample]],
                     readings: Sequence[tuple[str, Reading]]) -> Metric:
        """The family of an entry with the samples of all services."""
        made = make_family(entry)
        add: Callable[..., None] = made.add_metric  # type: ignore[attr-defined]
        for id, reading in readings:
            for labels, value in samples(reading):
                if isinstance(value, Histogram):
                    add((id, *labels), value.buckets, value.total)
                else:
                    add((id, *labels), value)
        return made


def make_page(collector: Collector, accept: str = "", accept_encoding: str = "") -> Answer:
    """The metrics page in the format that the Accept header asks for, compressed if Accept-Encoding allows it.

    The garbage collector is off meanwhile: a page makes tens of thousands of objects, none of them in a cycle.
    """
    try:
        encoder, content_type = choose_encoder(accept)
    except (ValueError, TypeError):  # a version in the Accept header that is no number
        encoder, content_type = choose_encoder("")
    collecting = gc.isenabled()
    gc.disable()
    try:
        body = encoder(collector)
    finally:
        if collecting:
            gc.enable()
    headers = {"Vary": "Accept, Accept-Encoding"}
    if accepts_gzip(accept_encoding):
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Answer(HTTPStatus.OK, body, content_type, headers)
