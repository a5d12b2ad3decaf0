"""The metrics page: every sample from the start, values as they stand on the Board, both text formats."""

import gc
import gzip
import mmap
import os
import re
import resource
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fastinetd.core.board import Board
from fastinetd.core.counters import ERRNO_NAMES, LATENCY_BOUNDS, SESSION_BOUNDS
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Method, Verdict
from fastinetd.manual.metrics import metrics_page
from fastinetd.monitor.metrics import (
    METRICS,
    POOL_STATES,
    REASONS,
    RECYCLINGS,
    STATUSES,
    BoardCollector,
    ServiceInfo,
    make_page,
)
from fastinetd.pools.pool import HeldAt
from support.core import program
from support.proc import wait_for

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ROWS, SLOTS, SECTIONS = 16, 64, 4

# Where struct Counters and struct Row of core/board.pxd hold what, in units of their words.
COUNTERS = {
    "accepted": 0, "activations": 1, "rejected": 2, "spawn_failures": 18, "latency": 34, "latency_ns": 106,
    "session": 110, "session_ns": 126, "exits": 127, "user_us": 131, "system_us": 132, "pool_hits": 133,
    "pool_misses": 134, "recycled": 135, "pool": 143, "rate_waits": 147, "rate_wait_ns": 148, "held": 149,
}  # fmt: skip
COUNTERS_SIZE = 150 * 8
LATENCIES = len(LATENCY_BOUNDS) + 1
ROW_SIZE, ROW_LIVE = 96, 16


class Writer:
    """Changes what is counted on a Board, as the processes that serve do."""

    def __init__(self, board: Board) -> None:
        size = os.fstat(board.fd).st_size
        self.memory = mmap.mmap(board.fd, size)
        self.counters = size - -(-SECTIONS * ROWS * COUNTERS_SIZE // 4096) * 4096

    def count(self, name: str, amount: int, row: int = 0, *, place: int = 0, section: int = 0) -> None:
        at = self.counters + (section * ROWS + row) * COUNTERS_SIZE + (COUNTERS[name] + place) * 8
        self.memory[at : at + 8] = struct.pack("=Q", struct.unpack_from("=Q", self.memory, at)[0] + amount)

    def live(self, servers: int, row: int = 0) -> None:
        at = 4096 + row * ROW_SIZE + ROW_LIVE
        self.memory[at : at + 4] = struct.pack("=L", servers)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(ROWS, SLOTS, SECTIONS)
    for _ in range(ROWS):
        made.row_claim()
    for _ in range(2):
        made.section_claim(os.getpid())
    status(made)
    yield made
    fd = made.fd
    made.unmap()
    os.close(fd)


@pytest.fixture
def writer(board: Board) -> Iterator[Writer]:
    made = Writer(board)
    yield made
    made.memory.close()


def status(board: Board, **changes: Any) -> None:
    values: dict[str, Any] = {"supervisor": os.getpid(), "descriptors": 42, "ready": True, "reload_ok": True,
              "reload_time": 1_700_000_000, "generation": 1}  # fmt: skip
    board.set_status(**{**values, **changes})


def service(row: int, id: str, **changes: Any) -> ServiceInfo:
    values: dict[str, Any] = {"row": row, "id": id, "stream": True, "inodes": (), **changes}
    return ServiceInfo(**values)


def collector(board: Board, *services: ServiceInfo, queues: dict[int, int] | None = None) -> BoardCollector:
    readable = Board.open(board.fd, False)
    return BoardCollector(readable, services, "1.2.3", lambda: queues or {})


class Page:
    """A page, parsed."""

    def __init__(self, collector: BoardCollector, accept: str = "") -> None:
        answer = make_page(collector, accept)
        self.text = answer.body.decode()
        self.families = list((parse_openmetrics if accept else parse_text)(self.text))
        self.samples = {(s.name, frozenset(s.labels.items())): s.value for f in self.families for s in f.samples}
        assert len(self.samples) == sum(len(f.samples) for f in self.families), "a sample twice"

    def of(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        wanted = labels.items()
        return {key: value for (n, key), value in self.samples.items() if n == name and wanted <= key}

    def value(self, name: str, **labels: str) -> float:
        return float(self.samples[name, frozenset(labels.items())])


def keys(page: Page, name: str, label: str, **labels: str) -> list[str]:
    return [dict(key)[label] for key in page.of(name, **labels)]


# ---- from the start ----


def test_every_sample_of_a_service_is_there_at_zero(board: Board) -> None:
    seen = Page(collector(board, service(0, "web"), service(1, "time", stream=False)))
    for id in ("web", "time"):
        assert seen.value("fastinetd_connections_accepted_total", service=id) == 0
        assert seen.value("fastinetd_datagram_activations_total", service=id) == 0
        assert seen.value("fastinetd_children", service=id) == 0
        assert keys(seen, "fastinetd_connections_rejected_total", "reason", service=id) == [r for r, _ in REASONS]
        assert keys(seen, "fastinetd_spawn_failures_total", "errno", service=id) == list(ERRNO_NAMES)
        assert keys(seen, "fastinetd_child_exits_total", "status", service=id) == [
            "success", "failure", "signal", "unknown"]  # fmt: skip
        assert keys(seen, "fastinetd_child_cpu_seconds_total", "mode", service=id) == ["user", "system"]
        for name, labels in (("spawn_latency", {"method": "exec"}), ("session", {})):
            assert seen.value(f"fastinetd_{name}_seconds_count", service=id, **labels) == 0
            assert seen.value(f"fastinetd_{name}_seconds_sum", service=id, **labels) == 0
    assert all(value == 0 for (_, labels), value in seen.samples.items() if "service" in dict(labels))
    assert seen.value("fastinetd_accept_queue_length", service="web") == 0
    assert not seen.of("fastinetd_accept_queue_length", service="time")


def test_reasons_are_the_refusing_verdicts() -> None:
    assert [name for name, _ in REASONS] == [v.name.lower() for v in Verdict if v.name not in ("ADMIT", "ASK")]
    assert len(REASONS) >= 5


def test_metrics_of_the_daemon(board: Board) -> None:
    status(board, reload_ok=False, descriptors=77)
    keeper = Keeper(board, 0)
    for _ in range(3):
        keeper.refuse(program(0, log_failure=1), Verdict.RATE, bytes(16), 0)
    seen = Page(collector(board))
    assert seen.value("fastinetd_config_last_reload_successful") == 0
    assert seen.value("fastinetd_config_last_reload_success_timestamp_seconds") == 1_700_000_000
    assert seen.value("fastinetd_journal_depth") == 3
    assert seen.value("process_open_fds") == 77
    [(build, value)] = seen.of("fastinetd_build_info").items()
    assert value == 1
    assert set(dict(build)) == {"version", "python", "implementation", "machine"}
    assert dict(build)["version"] == "1.2.3"


def test_process_metrics_are_the_supervisors(board: Board) -> None:
    seen = Page(collector(board))
    assert seen.value("process_resident_memory_bytes") > 1 << 20
    assert seen.value("process_virtual_memory_bytes") >= seen.value("process_resident_memory_bytes")
    assert seen.value("process_cpu_seconds_total") > 0
    assert abs(seen.value("process_start_time_seconds") - time.time()) < 86400
    assert seen.value("process_max_fds") > 0


def test_they_are_not_the_monitors_own(board: Board) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            resource.prlimit(other.pid, resource.RLIMIT_NOFILE, (77, 99))
            status(board, supervisor=other.pid)
            source = collector(board)
            wait_for(lambda: Page(source).value("process_resident_memory_bytes"), "it has begun")
            seen = Page(source)
            assert seen.value("process_max_fds") == 77
            assert seen.value("process_resident_memory_bytes") < 16 << 20
            assert seen.value("fastinetd_config_last_reload_successful") == 1
        finally:
            other.kill()


def test_without_a_supervisor_the_page_is_still_made(board: Board) -> None:
    status(board, supervisor=0)
    seen = Page(collector(board, service(0, "web")))
    assert not seen.of("process_cpu_seconds_total")
    assert not seen.of("process_max_fds")
    assert seen.value("process_open_fds") == 42
    assert seen.of("fastinetd_children")


# ---- values ----


def test_counters_and_gauges(board: Board, writer: Writer) -> None:
    board.count_activation(0, 3)
    writer.count("activations", 4, row=3, section=1)
    assert board.counters(3).activations == 5, "this file's idea of the layout is not the Board's"
    writer.count("accepted", 211, row=3)
    writer.count("rejected", 17, row=3, place=Verdict.ADDRESS)
    writer.count("rejected", 9, row=3, place=Verdict.DOORMAN, section=1)
    writer.count("spawn_failures", 6, row=3, place=ERRNO_NAMES.index("ENOENT"))
    writer.count("user_us", 1_500_000, row=3)
    writer.count("system_us", 250_000, row=3)
    for place, amount in enumerate((5, 6, 7, 8)):
        writer.count("exits", amount, row=3, place=place)
    writer.live(12, row=3)
    seen = Page(collector(board, service(3, "web"), service(4, "other")))
    assert seen.value("fastinetd_connections_accepted_total", service="web") == 211
    assert seen.value("fastinetd_connections_rejected_total", service="web", reason="address") == 17
    assert seen.value("fastinetd_connections_rejected_total", service="web", reason="doorman") == 9
    assert sum(seen.of("fastinetd_connections_rejected_total", service="web").values()) == 26
    assert seen.value("fastinetd_spawn_failures_total", service="web", errno="ENOENT") == 6
    assert sum(seen.of("fastinetd_spawn_failures_total").values()) == 6
    assert seen.value("fastinetd_datagram_activations_total", service="web") == 5
    assert seen.value("fastinetd_children", service="web") == 12
    assert seen.value("fastinetd_child_cpu_seconds_total", service="web", mode="user") == 1.5
    assert seen.value("fastinetd_child_cpu_seconds_total", service="web", mode="system") == 0.25
    exits = [seen.value("fastinetd_child_exits_total", service="web", status=name) for name, _ in STATUSES]
    assert exits == [5, 6, 7, 8]
    assert not any(seen.of("fastinetd_connections_accepted_total", service="other").values())


@pytest.mark.parametrize(
    ("field", "bounds", "name", "labels"),
    [
        ("latency", LATENCY_BOUNDS, "fastinetd_spawn_latency_seconds", {"method": "exec"}),
        ("session", SESSION_BOUNDS, "fastinetd_session_seconds", {}),
    ],
)
def test_histograms(field: str, bounds: tuple[float, ...], name: str, labels: dict[str, str], board: Board,
                    writer: Writer) -> None:  # fmt: skip
    for place in range(len(bounds) + 1):
        writer.count(field, place + 1, place=place, section=place % 2)
    writer.count(f"{field}_ns", 2_500_000_000)
    seen = Page(collector(board, service(0, "web")))
    buckets = {float(dict(key)["le"]): value for key, value in seen.of(f"{name}_bucket", service="web").items()}
    assert sorted(buckets) == [*bounds, float("inf")]
    grown = [buckets[bound] for bound in sorted(buckets)]
    assert grown == [(n + 1) * (n + 2) / 2 for n in range(len(bounds) + 1)]
    assert seen.value(f"{name}_count", service="web", **labels) == grown[-1]
    assert seen.value(f"{name}_sum", service="web", **labels) == 2.5


def test_services_with_one_id_are_summed(board: Board, writer: Writer) -> None:
    for row, amount in ((1, 10), (2, 32)):
        writer.count("accepted", amount, row=row)
        writer.count("latency", amount, row=row, place=17)
        writer.count("user_us", amount * 1_000_000, row=row)
        writer.live(amount, row=row)
    parts = (service(1, "web", inodes=(7,)), service(2, "web", inodes=(8,)), service(3, "web", stream=False))
    seen = Page(collector(board, *parts, queues={7: 1, 8: 4, 9: 100}))
    assert seen.value("fastinetd_connections_accepted_total", service="web") == 42
    assert seen.value("fastinetd_children", service="web") == 42
    assert seen.value("fastinetd_spawn_latency_seconds_count", service="web", method="exec") == 42
    assert seen.value("fastinetd_child_cpu_seconds_total", service="web", mode="user") == 42
    assert seen.value("fastinetd_accept_queue_length", service="web") == 5


def test_accept_queues_of_all_sockets_of_a_service(board: Board) -> None:
    services = (service(0, "both", inodes=(7, 8)), service(1, "one", inodes=(9,)), service(2, "gone", inodes=(10,)))
    seen = Page(collector(board, *services, queues={7: 2, 8: 3, 9: 1}))
    lengths = {id: seen.value("fastinetd_accept_queue_length", service=id) for id in ("both", "one", "gone")}
    assert lengths == {"both": 5, "one": 1, "gone": 0}


def test_starts_are_counted_by_method(board: Board, writer: Writer) -> None:
    writer.count("latency", 3, row=1, place=2)
    writer.count("latency", 4, row=1, place=Method.PREFORK * LATENCIES + 2)
    writer.count("latency_ns", 5_000_000_000, row=1, place=Method.PREFORK)
    writer.count("latency", 6, row=2, place=2)
    seen = Page(collector(board, service(1, "pool", methods=("exec", "zygote", "prefork")), service(2, "plain")))
    found = seen.of("fastinetd_spawn_latency_seconds_count")
    assert {tuple(sorted(dict(key).values())): value for key, value in found.items()} == {
        ("exec", "pool"): 3, ("pool", "zygote"): 0, ("pool", "prefork"): 4, ("exec", "plain"): 6,
    }  # fmt: skip
    assert seen.value("fastinetd_spawn_latency_seconds_sum", service="pool", method="prefork") == 5


def test_pools(board: Board, writer: Writer) -> None:
    for place, amount in enumerate((1, 2, 3, 4)):
        writer.count("pool", amount, place=place, section=place % 2)
    writer.count("pool_hits", 70)
    writer.count("pool_misses", 8)
    for place in range(len(RECYCLINGS)):
        writer.count("recycled", place + 1, place=place)
    seen = Page(collector(board, service(0, "pool", methods=("exec", "worker")), service(1, "plain")))
    assert {name: seen.value("fastinetd_pool_processes", service="pool", state=name) for name in POOL_STATES} == {
        "zygote": 1, "starting": 2, "idle": 3, "busy": 4,
    }  # fmt: skip
    assert seen.value("fastinetd_pool_hits_total", service="pool") == 70
    assert seen.value("fastinetd_pool_misses_total", service="pool") == 8
    recycled = [seen.value("fastinetd_pool_recycled_total", service="pool", reason=name) for name, _ in RECYCLINGS]
    assert recycled == [1, 2, 3, 4, 5, 6, 7, 8]
    assert not seen.of("fastinetd_pool_processes", service="plain")


def test_where_programs_are_held(board: Board, writer: Writer) -> None:
    """By how many acceptors; what a program makes up is one word."""
    board.section_claim(os.getpid())
    for section, (point, call) in enumerate([(HeldAt.FIRST_USE, 0), (HeldAt.FIRST_USE, 0), (HeldAt.EARLY, 37)]):
        writer.count("held", call << 8 | point + 1, section=section)
    writer.count("held", 77777 << 8 | HeldAt.AT_START + 1, row=1)
    writer.count("held", 0xFFFFFFFF << 8 | HeldAt.MAIN + 1, row=1, section=1)
    writer.count("held", len(HeldAt) + 1, row=2)  # no point there is
    seen = Page(collector(board, service(0, "early"), service(1, "other"), service(2, "none")))
    held = {frozenset(dict(key).values()): value for key, value in seen.of("fastinetd_pool_held").items()}
    assert held == {
        frozenset({"early", "first_use", "read"}): 2, frozenset({"early", "alarm"}): 1,
        frozenset({"other", "at_start", "unknown"}): 1, frozenset({"other", "main", ""}): 1,
    }  # fmt: skip


def test_pools_of_services_with_one_id(board: Board, writer: Writer) -> None:
    """Each has its own pool; their zygotes are counted together, and the methods of all are there."""
    for row in (1, 2):
        writer.count("held", HeldAt.MAIN + 1, row=row)
    seen = Page(collector(board, service(1, "web"), service(2, "web", methods=("exec", "zygote"))))
    assert seen.value("fastinetd_pool_held", service="web", point="main", call="") == 2
    assert keys(seen, "fastinetd_spawn_latency_seconds_count", "method", service="web") == ["exec", "zygote"]
    assert seen.of("fastinetd_pool_hits_total", service="web")


def test_a_pool_that_is_refused(board: Board, writer: Writer) -> None:
    """It is told why, and every connection is a miss."""
    writer.count("pool_misses", 5)
    refused = (service(0, "one", refused="static"), service(2, "two", refused="static"),
               service(3, "two", refused="shared_layout"), service(4, "two", methods=("exec", "zygote")),
               service(5, "two", refused="static"))
    seen = Page(collector(board, *refused, service(1, "plain")))
    assert seen.value("fastinetd_pool_refused", service="one", reason="static") == 1
    for reason in ("static", "shared_layout"):
        assert seen.value("fastinetd_pool_refused", service="two", reason=reason) == 1
    assert len(seen.of("fastinetd_pool_refused")) == 3
    assert seen.value("fastinetd_pool_misses_total", service="one") == 5
    assert seen.value("fastinetd_pool_hits_total", service="one") == 0
    assert not seen.of("fastinetd_pool_misses_total", service="plain")


def test_a_section_that_is_released_has_no_pool(board: Board, writer: Writer) -> None:
    writer.count("pool", 3, section=1, place=2)
    writer.count("pool_hits", 9, section=1)
    board.section_release(1)
    seen = Page(collector(board, service(0, "pool", methods=("exec", "zygote"))))
    assert seen.value("fastinetd_pool_processes", service="pool", state="idle") == 0
    assert seen.value("fastinetd_pool_hits_total", service="pool") == 9


def test_waiting_for_the_rate(board: Board, writer: Writer) -> None:
    writer.count("rate_waits", 5)
    writer.count("rate_wait_ns", 2_500_000_000)
    seen = Page(collector(board, service(0, "web"), service(1, "other")))
    assert seen.value("fastinetd_rate_waits_total", service="web") == 5
    assert seen.value("fastinetd_rate_wait_seconds_total", service="web") == 2.5
    assert seen.value("fastinetd_rate_waits_total", service="other") == 0


def test_a_service_that_starts_nothing_has_no_latency(board: Board) -> None:
    seen = Page(collector(board, service(0, "echo", methods=()), service(1, "web")))
    assert not seen.of("fastinetd_spawn_latency_seconds_count", service="echo")
    assert seen.of("fastinetd_connections_accepted_total", service="echo")
    assert seen.of("fastinetd_spawn_latency_seconds_count", service="web")


def test_no_label_set_is_new_after_traffic(board: Board, writer: Writer) -> None:
    source = collector(board, service(0, "web", inodes=(7,)), service(1, "udp", stream=False))
    before = set(Page(source).samples)
    for name in COUNTERS:
        writer.count(name, 1_000_000_000)
    assert set(Page(source).samples) == before


# ---- names and formats ----


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_the_page_holds_the_table_and_nothing_else(accept: str, board: Board, writer: Writer) -> None:
    writer.count("held", HeldAt.MAIN + 1)
    services = (service(0, "web", methods=("exec", "zygote")), service(1, "none", refused="static"))
    seen = Page(collector(board, *services), accept)
    for entry in METRICS:
        name = entry.name
        if accept:
            name = name.removesuffix("_total").removesuffix("_info")
        kind = "gauge" if entry.type == "info" and not accept else entry.type
        assert f"# TYPE {name} {kind}\n" in seen.text
        assert f"# HELP {name} {entry.help}\n" in seen.text
        sample = entry.name + ("_count" if entry.type == "histogram" else "")
        found = seen.of(sample)
        assert found, entry.name
        assert all(set(dict(key)) == set(entry.labels) for key in found)
    assert seen.text.count("# TYPE ") == len(METRICS)


def test_names_follow_the_conventions() -> None:
    names = [entry.name for entry in METRICS]
    assert len(set(names)) == len(names)
    for entry in METRICS:
        assert re.fullmatch(r"(fastinetd|process)_[a-z_]+", entry.name)
        assert entry.name.endswith("_total") == (entry.type == "counter")
        assert entry.name.endswith("_info") == (entry.type == "info")
        assert entry.help.endswith(".")
        assert not {"address", "host", "client", "peer", "pid", "le"} & set(entry.labels)


def test_openmetrics_ends_with_its_mark(board: Board) -> None:
    answer = make_page(collector(board, service(0, "web")), OPENMETRICS)
    assert answer.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert answer.body.endswith(b"# EOF\n")


def test_both_formats_tell_the_same(board: Board, writer: Writer) -> None:
    writer.count("accepted", 5)
    source = collector(board, service(0, "web"))
    text, modern = Page(source), Page(source, OPENMETRICS)
    changing = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes"}
    assert {k: v for k, v in text.samples.items() if k[0] not in changing} == {
        k: v for k, v in modern.samples.items() if k[0] not in changing}  # fmt: skip


def test_gzip_when_accepted(board: Board) -> None:
    source = collector(board, service(0, "web"))
    packed = make_page(source, "", "deflate, gzip;q=0.5")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert b"fastinetd_children" in gzip.decompress(packed.body)
    for refused in ("", "identity", "gzip;q=0", "x-gzip-not"):
        assert "Content-Encoding" not in make_page(source, "", refused).headers


ACCEPTS = (
    "{}",
    "text/plain;{}",
    "text/plain; version={}",
    "application/openmetrics-text; version={}",
    "application/openmetrics-text; version=1.0.0; escaping={}",
)


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.sampled_from(ACCEPTS))
def test_any_accept_header_gets_a_page(text: str, form: str) -> None:
    board = Board.create(1, 1, 1)
    try:
        assert make_page(BoardCollector(board, [service(0, "web")], "1", dict), form.format(text)).body
    finally:
        fd = board.fd
        board.unmap()
        os.close(fd)


@pytest.mark.parametrize("escaping", ["allow-utf-8", "underscores", "dots", "values", "other"])
def test_every_escaping_gets_a_page(escaping: str, board: Board) -> None:
    assert make_page(collector(board, service(0, "web")), f"{OPENMETRICS}; escaping={escaping}").body


@given(st.text(max_size=30))
def test_any_id_is_a_label(id: str) -> None:
    board = Board.create(1, 1, 1)
    try:
        seen = Page(BoardCollector(board, [service(0, id)], "1", dict))
        assert seen.value("fastinetd_children", service=id) == 0
    finally:
        fd = board.fd
        board.unmap()
        os.close(fd)


def test_an_id_of_bytes_that_are_no_text(board: Board) -> None:
    seen = Page(collector(board, service(0, b"caf\xe9".decode("utf-8", "surrogateescape"))))
    assert seen.value("fastinetd_children", service="caf\ufffd") == 0


@pytest.mark.parametrize("collecting", [True, False])
def test_the_garbage_collector_is_as_before_a_fault(board: Board, collecting: bool) -> None:
    """Without it the monitor would grow; and whoever has switched it off meant it."""

    def broken() -> dict[int, int]:
        raise RuntimeError

    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(RuntimeError):
            make_page(BoardCollector(board, [service(0, "web")], "1", broken))
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()


def test_the_kernels_queues_are_read_once_a_page(board: Board) -> None:
    """It lists all sockets there are, which takes a while."""
    looks: list[int] = []

    def queues() -> dict[int, int]:
        looks.append(1)
        return {}

    source = BoardCollector(board, [service(row, f"s{row}") for row in range(9)], "1", queues)
    for count in (1, 2):
        make_page(source)
        assert len(looks) == count


def test_the_page_of_a_thousand_services_is_quick(board: Board) -> None:
    large = Board.create(1000, 64, 4)
    try:
        for _ in range(1000):
            large.row_claim()
        for _ in range(4):
            large.section_claim(os.getpid())
        services = [service(row, f"service-{row}", inodes=(row,)) for row in range(1000)]
        source = BoardCollector(large, services, "1", dict)
        begun = time.process_time()
        body = make_page(source, OPENMETRICS).body
        taken = time.process_time() - begun
        assert body.count(b"\n") > 70_000
        assert taken < 5, f"{taken:.2f} s of CPU for a page"
    finally:
        fd = large.fd
        large.unmap()
        os.close(fd)


def test_the_documentation_is_current() -> None:
    path = Path(__file__).parents[3] / "docs" / "metrics.md"
    assert path.read_text("utf-8") == metrics_page(), "make it again: make docs"
