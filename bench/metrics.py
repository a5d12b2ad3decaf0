"""What fastinetd says of its pools on /metrics: a pool that fails is served by exec, which a client cannot see."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from bench.servers import Server, ServerError

SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
READY = ("zygote", "idle")  # states in which a process of a pool can take a connection
EARLY = ("early", "at_start", "unsupported")  # where snapshot = first_io does not hold what it is meant to
TIMEOUT, EACH = 15.0, 0.005  # seconds until a pool is ready, and for each of its processes


@dataclass(frozen=True)
class Pool:
    """The pool of one service: connections it served and left to exec, and its processes by state."""

    hits: int = 0
    misses: int = 0
    processes: dict[str, int] = field(default_factory=dict)
    early: tuple[str, ...] = ()  # system calls at which its program is held before its first use of the connection

    @property
    def ready(self) -> int:
        return sum(self.processes.get(state, 0) for state in READY)


def parse_page(text: str, service: str) -> Pool:
    """The pool of *service* in a page of metrics."""
    hits = misses = 0
    processes: dict[str, int] = {}
    early = set()
    for name, words, value in SAMPLE.findall(text):
        labels = dict(LABEL.findall(words))
        if labels.get("service") != service:
            continue
        if name == "fastinetd_pool_hits_total":
            hits += int(float(value))
        elif name == "fastinetd_pool_misses_total":
            misses += int(float(value))
        elif name == "fastinetd_pool_processes":
            processes[labels["state"]] = int(float(value))
        elif name == "fastinetd_pool_held" and labels["point"] in EARLY:
            early.add(labels["call"] or "main")
    return Pool(hits, misses, processes, tuple(sorted(early)))


def read_pool(port: int, service: str) -> Pool:
    """Ask the daemon that serves metrics on *port*. Raises OSError."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return parse_page(answer.read().decode(), service)


def await_ready_processes(server: Server, port: int, service: str, count: int = 1) -> Pool:
    """Wait until so many processes of the pool can take a connection. Raises ServerError when they never do."""
    pool, begin = Pool(), time.monotonic()
    while pool.ready < count:
        if time.monotonic() - begin > TIMEOUT + EACH * count or server.process.poll() is not None:
            raise ServerError(f"{pool.ready} of {count} processes of the pool became ready: {server.last_words()}")
        time.sleep(0.05)
        try:
            pool = read_pool(port, service)
        except urllib.error.HTTPError as error:
            raise ServerError(f"/metrics answers {error.code}") from error
        except OSError:
            continue  # it does not listen yet
        if not pool.processes:  # a pool's samples are there from the start, at 0
            raise ServerError(f"fastinetd has no pool for this service: {server.last_words()}")
    return pool
