"""A Board whose counters a test changes, and the page of metrics that is made of it."""

import mmap
import os
import struct
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fastinetd.core.board import Board
from fastinetd.monitor.metrics import (
    BoardCollector,
    ServiceInfo,
    make_page,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ROWS, SLOTS, SECTIONS = 16, 64, 4

# Where struct Counters and struct Row of core/layout.pxd hold what, in units of their words.
COUNTERS = {
    "accepted": 0, "activations": 1, "rejected": 2, "spawn_failures": 18, "latency": 34, "latency_ns": 106,
    "session": 110, "session_ns": 126, "exits": 127, "user_us": 131, "system_us": 132, "pool_hits": 133,
    "pool_misses": 134, "recycled": 135, "pool": 144, "rate_waits": 148, "rate_wait_ns": 149, "held": 150,
}  # fmt: skip
COUNTERS_SIZE = 151 * 8
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
