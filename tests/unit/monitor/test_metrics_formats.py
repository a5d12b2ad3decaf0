"""The page of metrics as text: names, the two formats, what a scraper may ask for, and what it costs."""

import gc
import gzip
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.core.board import Board
from fastinetd.manual.metrics import metrics_page
from fastinetd.monitor.metrics import (
    METRICS,
    BoardCollector,
    make_page,
)
from fastinetd.pools.pool import HeldAt
from support.scraped import (
    OPENMETRICS,
    Page,
    Writer,
    collector,
    service,
)


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
