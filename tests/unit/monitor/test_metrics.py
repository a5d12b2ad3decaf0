"""The metrics page: every sample from the start, values as they stand on the Board, both text formats."""

import os
import resource
import subprocess
import time

import pytest

from fastinetd.core.board import Board
from fastinetd.core.counters import ERRNO_NAMES, LATENCY_BOUNDS, SESSION_BOUNDS
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Method, Verdict
from fastinetd.monitor.metrics import (
    POOL_STATE_LABELS,
    REASON_LABELS,
    RECYCLING_LABELS,
    STATUS_LABELS,
)
from fastinetd.pools.pool import HeldAt, PoolState
from support.core import program
from support.proc import wait_for
from support.scraped import (
    COUNTERS,
    Page,
    Writer,
    collector,
    keys,
    service,
    status,
)

LATENCIES = len(LATENCY_BOUNDS) + 1


# ---- from the start ----


def test_every_sample_of_a_service_is_there_at_zero(board: Board) -> None:
    seen = Page(collector(board, service(0, "web"), service(1, "time", stream=False)))
    for id in ("web", "time"):
        assert seen.value("fastinetd_connections_accepted_total", service=id) == 0
        assert seen.value("fastinetd_datagram_activations_total", service=id) == 0
        assert seen.value("fastinetd_children", service=id) == 0
        assert keys(seen, "fastinetd_connections_rejected_total", "reason", service=id) == [r for r, _ in REASON_LABELS]
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
    assert [name for name, _ in REASON_LABELS] == [v.name.lower() for v in Verdict if v.name not in ("ADMIT", "ASK")]
    assert len(REASON_LABELS) >= 5


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
    exits = [seen.value("fastinetd_child_exits_total", service="web", status=name) for name, _ in STATUS_LABELS]
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


def test_states_of_pools_are_counted_by_their_numbers() -> None:
    assert dict(POOL_STATE_LABELS) == {
        "zygote": PoolState.HOLDING, "starting": PoolState.STARTING, "idle": PoolState.IDLE, "busy": PoolState.BUSY,
    }  # fmt: skip


def test_pools(board: Board, writer: Writer) -> None:
    for place, amount in enumerate((1, 2, 3, 4)):
        writer.count("pool", amount, place=place, section=place % 2)
    writer.count("pool_hits", 70)
    writer.count("pool_misses", 8)
    for place in range(len(RECYCLING_LABELS)):
        writer.count("recycled", place + 1, place=place)
    seen = Page(collector(board, service(0, "pool", methods=("exec", "worker")), service(1, "plain")))
    states = [name for name, _ in POOL_STATE_LABELS]
    assert {name: seen.value("fastinetd_pool_processes", service="pool", state=name) for name in states} == {
        "zygote": 1, "starting": 2, "idle": 3, "busy": 4,
    }  # fmt: skip
    assert seen.value("fastinetd_pool_hits_total", service="pool") == 70
    assert seen.value("fastinetd_pool_misses_total", service="pool") == 8
    reasons = [name for name, _ in RECYCLING_LABELS]
    recycled = [seen.value("fastinetd_pool_recycled_total", service="pool", reason=name) for name in reasons]
    assert recycled == [1, 2, 3, 4, 5, 6, 7, 8, 9]
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
