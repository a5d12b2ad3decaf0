"""Ten thousand connections, two hundred at a time, through a service with limits: nothing is lost, nothing is left."""

from __future__ import annotations

import asyncio
import collections
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.clients import Held, free_port
from support.daemon import Daemon, records
from support.proc import PATIENCE, wait_for
from support.texts import defaults, entry

COUNT = 10_000
AT_ONCE = 200
INSTANCES = 120
PER_SOURCE = 8
LEEWAY = 400  # kB: 160 bytes for each client of the second crowd
SOURCES = [f"127.0.1.{n}" for n in range(1, 21)]


class Crowd:
    """Clients of /bin/cat: each waits to have its own line back, keeps it for a moment, and sees the end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.results: collections.Counter[str] = collections.Counter()
        self.wrong: list[bytes] = []
        self.held = 0
        self.most = 0
        self.held_by: collections.Counter[str] = collections.Counter()
        self.most_by: collections.Counter[str] = collections.Counter()

    async def client(self, number: int) -> None:
        source = SOURCES[number % len(SOURCES)]
        text = f"client {number} of {source}\n".encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        answer = b""
        try:
            writer.write(text)
            answer = await reader.readline()
            if answer:
                await self.hold(source, writer)
                answer += await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()
        if answer not in (b"", text):
            self.wrong.append(answer)
        self.results["answered" if answer == text else "refused" if not answer else "wrong"] += 1

    async def hold(self, source: str, writer: asyncio.StreamWriter) -> None:
        """Be served for as long as it takes the other clients to have a turn."""
        self.held += 1
        self.held_by[source] += 1
        self.most = max(self.most, self.held)
        self.most_by[source] = max(self.most_by[source], self.held_by[source])
        for _ in range(3):
            await asyncio.sleep(0)
        self.held -= 1
        self.held_by[source] -= 1
        writer.write_eof()

    async def come(self, count: int = COUNT) -> None:
        numbers = iter(range(count))

        async def one_after_the_other() -> None:
            for number in numbers:
                await asyncio.wait_for(self.client(number), 3 * PATIENCE)

        await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


@pytest.mark.slow
def test_ten_thousand(launch: Callable[..., Daemon], folder: Path) -> None:
    port, log = free_port(), folder / "records"
    user = "nobody" if os.geteuid() == 0 else os.geteuid()
    limits: dict[str, Any] = {"instances": INSTANCES, "per_source": PER_SOURCE, "user": user}
    daemon = launch(defaults(log) + entry("many", port, "/bin/cat", **limits), metrics=True)
    crowd = Crowd(port)
    asyncio.run(crowd.come())

    assert crowd.wrong == []
    assert crowd.results.total() == COUNT
    answered, refused = crowd.results["answered"], crowd.results["refused"]
    assert answered > 0
    assert crowd.most <= INSTANCES
    assert max(crowd.most_by.values()) <= PER_SOURCE

    daemon.await_metric("fastinetd_child_exits_total", answered, service="many")
    daemon.await_metric("fastinetd_children", 0, service="many")
    assert daemon.metric("fastinetd_connections_accepted_total", service="many") == COUNT
    assert daemon.metric("fastinetd_connections_rejected_total", service="many") == refused
    by_reason = {
        reason: daemon.metric("fastinetd_connections_rejected_total", service="many", reason=reason)
        for reason in ("instances", "per_source")
    }
    assert sum(by_reason.values()) == refused
    assert daemon.metric("fastinetd_spawn_latency_seconds_count", service="many") == answered
    assert daemon.metric("fastinetd_session_seconds_count", service="many") == answered
    daemon.await_metric("fastinetd_journal_depth", 0)

    wait_for(lambda: len(records(log)) == 2 * answered + refused, lambda: (len(records(log)), crowd.results))
    kinds = collections.Counter(" ".join(line.split(" pid=")[0].split(" from=")[0].split()) for line in records(log))
    expected = {
        "START: many": answered,
        "EXIT: many status=0": answered,
        "FAIL: many service_limit": by_reason["instances"],
        "FAIL: many per_source_limit": by_reason["per_source"],
    }
    assert kinds == {kind: count for kind, count in expected.items() if count}
    starts = collections.Counter(line.split()[2] for line in records(log, "START"))
    ends = collections.Counter(line.split()[3] for line in records(log, "EXIT"))
    assert starts == ends

    before = memory(daemon)
    asyncio.run(Crowd(port).come(COUNT // 4))
    wait_for(lambda: not daemon.servers(), "all have ended")
    assert {name: grown for name, now in memory(daemon).items() if (grown := now - before[name]) > LEEWAY} == {}

    assert limits_still_hold(port) == PER_SOURCE
    daemon.await_metric("fastinetd_children", 0, service="many")
    assert daemon.zombies() == []


def memory(daemon: Daemon) -> dict[str, int]:
    """Role -> kB of memory of its own."""
    found = {}
    for name, pid in daemon.roles().items():
        match = re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert match
        found[name] = int(match[1])
    return found


def limits_still_hold(port: int) -> int:
    """How many clients of one address are served at a time now."""
    clients = [Held(port, source=SOURCES[0]) for _ in range(PER_SOURCE + 3)]
    admitted = sum(client.admitted for client in clients)
    for client in clients:
        client.close()
    return admitted
