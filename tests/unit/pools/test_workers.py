"""Workers: one connection after another, a queue while all are busy, an end for each that has had enough."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from fastinetd.core.layout import RecordKind, Status
from fastinetd.pools.pool import PoolEvent, PoolState, Recycling
from support.clients import everything
from support.core import await_end, reap
from support.pooled import Pooled, stop
from support.proc import descriptors, process, wait_for
from support.told import EXEC, SECOND, TOLD, WORKER, ask, serve, tell


class TestConnections:
    def test_one_after_another(self, pooled: Pooled) -> None:
        pid = serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        (worker,) = pooled.pool(pid)
        assert {ask(pooled, "pid") for _ in range(10)} == {str(worker)}
        pooled.balanced(10)
        wait_for(lambda: pooled.state(PoolState.IDLE) == 1, "it is idle again")
        assert (pooled.outcome(), pooled.by(WORKER), pooled.by(EXEC)) == ((10, 0), 10, 0)
        assert {record.pid for record in pooled.of_kind(RecordKind.EXIT)} == {worker}

    def test_what_it_is_told_and_has(self, pooled: Pooled) -> None:
        pid = serve(pooled, workers=1)
        pooled.await_state(PoolState.IDLE, 1)
        with pooled.connect() as client:
            assert tell(client, "env REMOTE_HOST") == "127.0.0.1"
            assert tell(client, "env TCPREMOTEPORT") == str(client.getsockname()[1])
            assert tell(client, "fds").split()[:5] == ["0", "1", "2", "3", "4"]
        pooled.await_calm()
        kept = descriptors(pid)
        ask(pooled, "x")
        pooled.await_calm()
        wait_for(lambda: len(descriptors(pid)) == len(kept), lambda: f"{kept} again: {descriptors(pid)}")

    def test_its_status_is_told(self, pooled: Pooled) -> None:
        serve(pooled)
        for status in (0, 7, 255):
            ask(pooled, f"status {status}")
            pooled.await_calm()
        assert [(each.value, each.signalled) for each in pooled.of_kind(RecordKind.EXIT)] == [
            (0, False), (7, False), (255, False)
        ]  # fmt: skip
        assert (pooled.counters.exits[Status.SUCCESS], pooled.counters.exits[Status.FAILURE]) == (1, 2)

    def test_the_one_that_was_busy_last_comes_first(self, pooled: Pooled) -> None:
        serve(pooled, least=3, workers=3)
        pooled.await_state(PoolState.IDLE, 3)
        clients = [pooled.connect() for _ in range(3)]
        workers = [tell(client, "pid") for client in clients]
        assert len(set(workers)) == 3
        for number, client in enumerate(clients):
            client.close()
            pooled.await_state(PoolState.IDLE, number + 1)
        for _ in range(3):
            assert ask(pooled, "pid") == workers[2]
            pooled.await_state(PoolState.IDLE, 3)

    def test_more_are_started_as_they_are_needed(self, pooled: Pooled) -> None:
        """Two are kept ready, five may be."""
        pid = serve(pooled, least=2, workers=5)
        pooled.await_state(PoolState.IDLE, 2)
        clients = []
        for busy, idle in ((1, 2), (2, 2), (3, 2), (4, 1), (5, 0)):
            clients.append(pooled.connect())
            assert tell(clients[-1], "by") == "worker"
            pooled.await_state(PoolState.BUSY, busy)
            pooled.await_state(PoolState.IDLE, idle)
        assert len(pooled.children(pid)) == 5
        for client in clients:
            client.close()
        pooled.balanced(5)
        pooled.await_state(PoolState.IDLE, 5)


    MS = 1_000_000

    @pytest.mark.parametrize(("expected", "count", "idle", "waiting", "waited", "short", "freed"), [
        (True, 1, 1, 0, 0, 0, 0),  # one that is to be there is not
        (False, 2, 2, 0, 0, 900 * MS, 0),  # enough are idle
        (False, 2, 1, 0, 0, 4 * MS, 0),  # a connection may be a short one
        (True, 2, 1, 0, 0, 6 * MS, 0),  # it is not
        (True, 2, 1, 0, 0, 6 * MS, 11),
        (False, 2, 1, 0, 0, 6 * MS, 12),  # many that are: the next client would not have to wait long
        (False, 2, 0, 0, 0, 6 * MS, 12),
        (True, 3, 0, 1, 0, 6 * MS, 12),  # there is a processor for one more
        (False, 4, 0, 1, 4 * MS, 6 * MS, 12),
        (True, 4, 0, 1, 6 * MS, 6 * MS, 12),  # somebody has waited for long
        (False, 8, 0, 9, 900 * MS, 900 * MS, 0),  # as many as there may be
    ])  # fmt: skip
    def test_when_more_are_needed(
        self, rules: ModuleType, expected: bool, count: int, idle: int, waiting: int, waited: int, short: int,
        freed: int,
    ) -> None:  # fmt: skip
        """Of 8, 2 are to be idle; 4 keep the processors busy."""
        assert rules.needs_another(2, 8, 4, count, idle, waiting, waited, short, freed) == expected


class TestQueue:
    def test_in_order(self, pooled: Pooled) -> None:
        """Who comes while all are busy waits; as many as there are workers, the others in the kernel's queue."""
        serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        first = pooled.connect()
        tell(first, "x")
        waiting = [pooled.connect() for _ in range(5)]
        for client in waiting:
            client.sendall(b"by\n")
        wait_for(lambda: len(pooled.board.slots_in_use()) == 2, "one waits with a slot of its own")
        first.close()
        while waiting:
            client = waiting.pop(0)
            assert client.recv(100) == b"worker\n"
            assert select.select(waiting, [], [], 0)[0] == []
            client.close()
        pooled.balanced(6)
        assert (pooled.outcome(), pooled.by(EXEC)) == ((6, 0), 0)

    def test_the_listener_rests_and_goes_on(self, pooled: Pooled) -> None:
        serve(pooled, least=2, workers=2)
        pooled.await_state(PoolState.IDLE, 2)
        busy = [pooled.connect() for _ in range(2)]
        for client in busy:
            tell(client, "x")
        waiting = [pooled.connect() for _ in range(8)]
        wait_for(lambda: pooled.counters.accepted == 4, "two are accepted and wait, six are not")
        for client in busy:
            client.close()
        for client in waiting:
            assert tell(client, "by") == "worker"
            client.close()
        pooled.balanced(10)

    def test_those_who_wait_for_a_worker_that_dies_are_served_by_exec(self, pooled: Pooled) -> None:
        serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        busy = pooled.connect()
        worker = int(tell(busy, "pid"))
        waiting = pooled.connect()
        waiting.sendall(b"by\n")
        wait_for(lambda: len(pooled.board.slots_in_use()) == 2, "it waits")
        os.kill(worker, signal.SIGKILL)
        assert everything(busy) == b""
        assert waiting.recv(100) in (b"exec\n", b"worker\n")
        waiting.close()
        pooled.balanced(2)

    def test_while_the_first_one_starts(self, pooled: Pooled, folder: Path) -> None:
        """Nobody knows whether it is going to be a worker: exec. Afterwards its like is waited for."""
        os.mkfifo(folder / "gate")
        serve(pooled, f"wait {folder / 'gate'}")
        pooled.await_state(PoolState.STARTING, 1)
        assert ask(pooled, "by") == "exec"
        (folder / "gate").write_text("")
        pooled.await_state(PoolState.IDLE, 1)
        assert ask(pooled, "by") == "worker"
        assert pooled.outcome() == (1, 1)


class TestDeath:
    def test_in_a_connection(self, pooled: Pooled) -> None:
        serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        with pooled.connect() as client:
            assert tell(client, "die 9") == ""
        pooled.balanced(1)
        (record,) = pooled.of_kind(RecordKind.EXIT)
        assert (record.value, record.signalled) == (9, False)
        pooled.await_recycled(Recycling.DIED)
        pooled.await_state(PoolState.IDLE, 1)
        assert ask(pooled, "by") == "worker"
        assert pooled.counters.user_us > 0

    def test_before_it_has_received_its_connection(self, pooled: Pooled) -> None:
        """Then somebody else can serve it, and does, once."""
        pid = serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        (worker,) = pooled.pool(pid)
        stop(worker)
        client = pooled.connect()
        client.sendall(b"by\n")
        pooled.await_state(PoolState.BUSY, 1)
        os.kill(worker, signal.SIGKILL)
        assert client.recv(100) == b"exec\n"
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b""
        pooled.balanced(2)
        assert pooled.outcome() == (1, 1)
        assert [record.signalled for record in pooled.of_kind(RecordKind.EXIT)] == [True, False]

    def test_before_it_is_ready(self, pooled: Pooled) -> None:
        serve(pooled, "exit 3")
        assert pooled.await_pool_event(PoolEvent.DIED_EARLY) == 3
        assert ask(pooled, "by") == "exec"
        pooled.balanced(1)
        wait_for(lambda: len(pooled.of_kind(RecordKind.POOL)) >= 4, "four attempts")
        times = [record.when for record in pooled.of_kind(RecordKind.POOL)][:4]
        for number, (one, other) in enumerate(pairwise(times)):
            assert 0.1 * 2**number - 0.05 < other - one

    def test_while_idle(self, pooled: Pooled) -> None:
        pid = serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        (worker,) = pooled.pool(pid)
        os.kill(worker, signal.SIGKILL)
        pooled.await_recycled(Recycling.DIED)
        pooled.await_state(PoolState.IDLE, 1)
        assert pooled.pool_events() == []
        assert [each.pid for each in pooled.children(pid)] != [worker]


class TestRude:
    @pytest.mark.parametrize("said", ["", "00", "0000000000", "00010000", "ffffffff"])
    def test_nonsense(self, pooled: Pooled, said: str) -> None:
        """The worker is ended, and with it its connection."""
        serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        with pooled.connect() as client:
            worker = int(tell(client, "pid"))
            client.sendall(f"say {said}\n".encode())
            if said:
                while client.recv(100):
                    pass
        wait_for(lambda: process(worker) is None, "it is gone")
        pooled.balanced(1)
        if said:
            assert pooled.pool_events() == [(PoolEvent.UNINTELLIGIBLE, 0)]
            assert pooled.recycled(Recycling.MISTRUSTED) == 1
        pooled.await_state(PoolState.IDLE, 1)
        assert ask(pooled, "by") == "worker"

    def test_nonsense_at_once(self, pooled: Pooled) -> None:
        serve(pooled, "nonsense")
        pooled.await_pool_event(PoolEvent.UNINTELLIGIBLE)
        assert ask(pooled, "by") == "exec"

    def test_ready_twice(self, pooled: Pooled) -> None:
        serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        with pooled.connect() as client:
            worker = int(tell(client, "pid"))
            client.sendall(b"say 00000000\nsay 00000000\n")
            wait_for(lambda: process(worker) is None, "it is gone")
        pooled.await_pool_event(PoolEvent.UNINTELLIGIBLE)
        pooled.balanced(1)

    def test_one_that_shuts_its_socket(self, pooled: Pooled) -> None:
        """It finishes what it does."""
        serve(pooled)
        pooled.await_state(PoolState.IDLE, 1)
        with pooled.connect() as client:
            worker = int(tell(client, "pid"))
            tell(client, "shut")
            pooled.await_recycled(Recycling.MISTRUSTED)
            assert tell(client, "pid") == str(worker)
        wait_for(lambda: process(worker) is None, "it is gone")
        pooled.balanced(1)

    def test_one_that_shuts_its_socket_at_once_pauses_the_next(self, pooled: Pooled) -> None:
        begun = time.monotonic()
        serve(pooled, "shut")
        pooled.await_recycled(Recycling.MISTRUSTED, 5)
        assert ask(pooled, "by") == "exec"
        pooled.await_recycled(Recycling.MISTRUSTED, 6)
        assert time.monotonic() - begun > 3, "0.1, 0.2, 0.4 and so on"

    def test_what_never_gets_ready(self, pooled: Pooled, folder: Path) -> None:
        os.mkfifo(folder / "gate")
        serve(pooled, f"wait {folder / 'gate'}", ready_within=SECOND // 2)
        pooled.await_pool_event(PoolEvent.TOO_SLOW)
        assert ask(pooled, "by") == "exec"
        assert pooled.recycled(Recycling.MISTRUSTED) >= 1

    def test_no_such_program(self, pooled: Pooled) -> None:
        pooled.serve(WORKER, "/no/such/program", least=1)
        assert pooled.await_pool_event(PoolEvent.NO_START) == 2
        assert everything(pooled.connect()) == b""


def test_a_changed_program(pooled: Pooled, folder: Path) -> None:
    """Workers that are busy finish; the next connections have new ones."""
    path = folder / "worker.py"
    shutil.copy(TOLD, path)
    pid = pooled.serve(WORKER, os.path.realpath(sys.executable), "-SE", str(path), least=2, workers=4,
                       files=(os.fsencode(path),))
    pooled.await_state(PoolState.IDLE, 2)
    before = set(pooled.pool(pid))
    client = pooled.connect()
    busy = int(tell(client, "pid"))
    path.write_text(path.read_text() + "\n")

    def noticed() -> bool:
        ask(pooled, "x")
        return pooled.recycled(Recycling.CHANGED) >= 2

    wait_for(noticed, "it has been noticed")
    assert tell(client, "pid") == str(busy)
    client.close()
    wait_for(lambda: not any(process(worker) for worker in before), "the old ones are gone")
    wait_for(lambda: ask(pooled, "by") == "worker", "there are new ones")


class TestLeaving:
    def test_retired_with_clients_that_wait(self, pooled: Pooled) -> None:
        """They are served first, and nothing spins meanwhile, though a worker is missing."""
        pid = serve(pooled, workers=2)
        pooled.await_state(PoolState.IDLE, 1)
        busy = [pooled.connect() for _ in range(2)]
        workers = [int(tell(client, "pid")) for client in busy]
        waiting = pooled.connect()
        wait_for(lambda: len(pooled.board.slots_in_use()) == 3, "it waits")
        listener = f"socket:[{os.fstat(pooled.listener.fileno()).st_ino}]"
        pooled.retire(pid)
        wait_for(lambda: listener not in descriptors(pid).values(), "it has given up the listener")
        os.kill(workers[1], signal.SIGKILL)
        pooled.await_recycled(Recycling.DIED)
        used = process(pid)
        assert used is not None
        assert select.select([waiting], [], [], 0.5)[0] == []
        now = process(pid)
        assert now is not None
        assert now.ticks - used.ticks < 10
        busy[0].close()
        assert tell(waiting, "by") in ("worker", "exec")
        assert reap(pid) == 0
        assert tell(waiting, "x") == "x"

    def test_its_workers_leave_with_it(self, pooled: Pooled) -> None:
        pid = serve(pooled, least=2, workers=2)
        pooled.await_state(PoolState.IDLE, 2)
        client = pooled.connect()
        busy = int(tell(client, "pid"))
        (idle,) = set(pooled.pool(pid)) - {busy}
        pooled.retire(pid)
        assert reap(pid) == 0
        wait_for(lambda: not ((it := process(idle)) and it.alive), "the idle one leaves with it")
        ((_, server, _),) = pooled.board.adopt(pooled.sections[pid], 3)
        assert server == busy
        assert tell(client, "x") == "x"
        client.close()
        await_end(busy)


def test_acceptors_share(pooled: Pooled) -> None:
    """Two of four acceptors: each keeps its part of what is asked for."""
    pooled.plan(WORKER, os.path.realpath(sys.executable), "-SE", str(TOLD), least=3, most=4, workers=5)
    pids = [pooled.start(4) for _ in range(2)]
    pooled.await_state(PoolState.IDLE, 4)
    assert [len(pooled.pool(pid)) for pid in pids] == [2, 2]
