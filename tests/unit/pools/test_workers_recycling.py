"""Workers end when they have had enough, or are too many."""

from __future__ import annotations

import os
import signal

import pytest

from fastinetd.core.layout import RecordKind
from fastinetd.pools.pool import PoolEvent, PoolState, Recycling
from support.pooled import Pooled, stop
from support.proc import process, wait_for
from support.told import SECOND, ask, serve, tell


class TestEnough:
    def test_requests(self, pooled: Pooled) -> None:
        serve(pooled, requests=3)
        pooled.await_state(PoolState.IDLE, 1)
        workers = []
        for number in range(9):
            workers.append(ask(pooled, "pid"))
            pooled.await_calm()
            pooled.await_recycled(Recycling.REQUESTS, (number + 1) // 3) if number % 3 == 2 else None
            pooled.await_state(PoolState.IDLE, 1)
        assert [workers.count(worker) for worker in dict.fromkeys(workers)] == [3, 3, 3]
        assert all(process(int(worker)) is None for worker in workers)
        pooled.balanced(9)

    def test_jitter(self, pooled: Pooled) -> None:
        """Up to a tenth less: twenty workers do not end together."""
        serve(pooled, requests=20)
        pooled.await_state(PoolState.IDLE, 1)
        workers = [ask(pooled, "pid") for _ in range(500)]
        served = [workers.count(worker) for worker in dict.fromkeys(workers)][:-1]
        counts = [count for count in served if count > 1]  # one alone came while no worker was ready: exec served it
        assert all(18 < count <= 20 for count in counts), served
        assert len(counts) > 20
        assert len(set(counts)) == 2, "alike by chance once in ten million times"

    def test_age(self, pooled: Pooled) -> None:
        """Also of one that nobody uses; one that is busy finishes first."""
        serve(pooled, least=2, workers=2, age=SECOND)
        pooled.await_state(PoolState.IDLE, 2)
        client = pooled.connect()
        busy = int(tell(client, "pid"))
        before = pooled.recycled(Recycling.AGE)
        pooled.await_recycled(Recycling.AGE, before + 1)  # the idle one
        assert tell(client, "pid") == str(busy)
        client.close()
        wait_for(lambda: process(busy) is None, "so is the other")
        pooled.await_state(PoolState.IDLE, 2)

    def test_age_of_one_that_was_busy(self, pooled: Pooled) -> None:
        """Whatever was looked at meanwhile."""
        serve(pooled, least=0, workers=2, age=2 * SECOND)
        assert ask(pooled, "by") == "exec"
        pooled.await_state(PoolState.IDLE, 1)
        clients = [pooled.connect() for _ in range(2)]
        busy, other = (int(tell(client, "pid")) for client in clients)
        os.kill(other, signal.SIGKILL)
        wait_for(lambda: process(other) is None, "the other one is gone")
        clients[0].close()
        pooled.await_recycled(Recycling.AGE)
        wait_for(lambda: process(busy) is None, "it is gone")

    def test_size(self, pooled: Pooled) -> None:
        serve(pooled, rss=200 * 2**20)
        pooled.await_state(PoolState.IDLE, 1)
        small = ask(pooled, "pid")
        ask(pooled, f"eat {300 * 2**20}")
        # It is weighed once a second, after a connection, and needs no further one for that.
        wait_for(lambda: process(int(small)) is None, "it is gone")
        assert pooled.recycled(Recycling.RSS) == 1
        assert ask(pooled, "by") == "worker"
        pooled.await_calm()

    def test_runtime(self, pooled: Pooled) -> None:
        """The client's connection is closed; a client that waits is served by another."""
        serve(pooled, runtime=SECOND)
        pooled.await_state(PoolState.IDLE, 1)
        client = pooled.connect()
        worker = int(tell(client, "pid"))
        assert client.recv(1) == b""
        client.close()
        assert pooled.await_pool_event(PoolEvent.OVERTIME) == worker
        assert ask(pooled, "by") in ("exec", "worker")
        pooled.balanced(2)
        assert pooled.recycled(Recycling.RUNTIME) == 1
        assert next((each.pid, each.value, each.signalled) for each in pooled.of_kind(RecordKind.EXIT)) == (
            worker, signal.SIGKILL, True,
        )  # fmt: skip
        assert len(pooled.pool_events()) == 1

    @pytest.mark.slow
    def test_too_many(self, pooled: Pooled) -> None:
        """Those beyond max_spare go after some seconds, by halves."""
        pid = serve(pooled, least=1, most=2, workers=10)
        clients = []
        for _ in range(10):
            clients.append(pooled.connect())
            assert tell(clients[-1], "by")
        for client in clients:
            client.close()
        pooled.await_calm()
        pooled.await_state(PoolState.IDLE, 2)
        wait_for(lambda: len(pooled.children(pid)) == 2, "the others are gone")
        assert ask(pooled, "by") == "worker"

    @pytest.mark.slow
    def test_not_needed_any_more(self, pooled: Pooled) -> None:
        """What has been idle for long goes: all but those that keep the processors busy."""
        enough = 2 * len(os.sched_getaffinity(0))
        pid = serve(pooled, least=1, most=enough + 4, workers=enough + 4, spare_after=2 * SECOND)
        clients = []
        for _ in range(enough + 3):
            clients.append(pooled.connect())
            assert tell(clients[-1], "by")
        for client in clients:
            client.close()
        pooled.await_recycled(Recycling.SPARE)
        pooled.await_state(PoolState.IDLE, enough)
        wait_for(lambda: len(pooled.children(pid)) == enough, "the others are gone")
        assert ask(pooled, "by") == "worker"

    @pytest.mark.slow
    def test_one_that_does_not_leave_is_killed(self, pooled: Pooled) -> None:
        pid = serve(pooled, age=SECOND)
        pooled.await_state(PoolState.IDLE, 1)
        (worker,) = pooled.pool(pid)
        stop(worker)
        pooled.await_recycled(Recycling.AGE)
        assert process(worker) is not None
        wait_for(lambda: process(worker) is None, "it is killed after ten seconds")
        assert ask(pooled, "by") in ("worker", "exec")
