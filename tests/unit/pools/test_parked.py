"""Parked children: one message for each connection, as many of them as are needed, and no connection lost with one."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from contextlib import suppress
from types import ModuleType

import pytest

from fastinetd.core.layout import Method
from fastinetd.pools.pool import PoolEvent, PoolState, Recycling
from support.clients import everything
from support.core import HOUR, pool_of, program, reap
from support.pooled import CONTROL, Pooled, echo, finish, go_on, stop
from support.proc import descriptors, process, wait_for

CAT = "/bin/cat"
PREFORK, ZYGOTE, EXEC = Method.PREFORK, Method.ZYGOTE, Method.EXEC
SECOND = 10**9


def serve(pooled: Pooled, **values: int) -> int:
    return pooled.serve(PREFORK, CAT, **{"least": 2, "most": 8, **values})


class TestConnections:
    def test_the_parked_serve(self, pooled: Pooled) -> None:
        pid = serve(pooled, least=5)
        pooled.await_state(PoolState.IDLE, 5)
        parked, zygote = set(pooled.parked(pid)), pooled.zygote(pid)
        stop(zygote)  # nobody else is parked meanwhile
        clients = [echo(pooled.connect()) for _ in range(5)]
        wait_for(lambda: pooled.by(PREFORK) == 5, "all are known to be served")
        assert {slot.pid for slot in pooled.board.slots_in_use()} == parked
        go_on(zygote)
        finish(clients)
        pooled.balanced(5)
        assert (pooled.outcome(), pooled.by(EXEC), pooled.by(ZYGOTE)) == ((5, 0), 0, 0)
        pooled.await_state(PoolState.IDLE, 5)

    def test_nothing_is_left(self, pooled: Pooled) -> None:
        pid = serve(pooled)
        for _ in range(5):
            finish([echo(pooled.connect()) for _ in range(20)])
        pooled.await_calm()
        wait_for(lambda: pooled.state(PoolState.IDLE) == len(pooled.pool(pid)) - 1 == len(pooled.children(pid)) - 1,
                 "parked children and a zygote, and nobody else")
        kinds = list(descriptors(pid).values())
        # the zygote's, and one of each parked child
        assert kinds.count("anon_inode:[pidfd]") == pooled.state(PoolState.IDLE) + 1

    def test_without_one_the_zygote_serves(self, pooled: Pooled) -> None:
        serve(pooled, least=0, most=0)
        pooled.await_state(PoolState.HOLDING, 1)
        finish([echo(pooled.connect())])
        pooled.balanced(1)
        assert (pooled.outcome(), pooled.by(ZYGOTE)) == ((0, 1), 1)

    def test_acceptors_share(self, pooled: Pooled) -> None:
        pooled.plan(PREFORK, CAT, least=3, most=8)
        pids = [pooled.start(2) for _ in range(2)]
        pooled.await_state(PoolState.IDLE, 4)
        wait_for(lambda: [len(pooled.parked(pid)) for pid in pids] == [2, 2], "each has two")
        assert pooled.state(PoolState.HOLDING) == 2


class TestHowMany:
    def test_at_least_and_at_most(self, pooled: Pooled) -> None:
        pid = serve(pooled, least=3, most=6)
        pooled.await_state(PoolState.IDLE, 3)
        clients: list[socket.socket] = []
        for _ in range(4):
            clients += [echo(pooled.connect()) for _ in range(10)]
            # one that serves is counted as parked until it is heard that it does
            wait_for(lambda: pooled.state(PoolState.IDLE) <= 6, "no more than may be")
        wait_for(lambda: sum(pooled.outcome()) == len(clients), "all servers are known as that, and not as parked")
        wait_for(lambda: 3 <= pooled.state(PoolState.IDLE) <= 6, "there are as many as shall be")
        assert len(pooled.parked(pid)) <= 6
        assert sum(pooled.outcome()) >= 39
        finish(clients)
        pooled.balanced(40)

    def test_doubles_after_each_miss(self, pooled: Pooled) -> None:
        """None is wanted, and each connection that finds none makes it one, three, seven more."""
        pid = serve(pooled, least=0, most=100, count_every=HOUR)  # none of it is forgotten, however long this takes
        zygote = pooled.zygote(pid)
        clients: list[socket.socket] = []
        for wanted in (1, 3, 7, 15, 31, 32):
            # No parked child is left: what has been forked by now gets a client each, and nothing else is forked.
            stop(zygote)
            wait_for(lambda: pooled.state(PoolState.IDLE) == len(pooled.pool(pid)) - 1, "all that were forked wait")
            while pooled.state(PoolState.IDLE):
                before = sum(pooled.outcome())
                clients.append(echo(pooled.connect()))
                wait_for(lambda: sum(pooled.outcome()) > before, "it is known")  # noqa: B023 - called at once
            misses = pooled.counters.pool_misses
            clients.append(pooled.connect())
            wait_for(lambda: len(pooled.board.handed(pooled.sections[pid])) == 1, "it is with the zygote")
            go_on(zygote)
            echo(clients[-1])
            wait_for(lambda: pooled.counters.pool_misses == misses + 1, "a miss")  # noqa: B023
            wait_for(lambda: pooled.state(PoolState.IDLE) >= wanted // 2, f"about {wanted} are parked")  # noqa: B023
        assert pooled.state(PoolState.IDLE) <= 100
        finish(clients)
        pooled.await_calm()

    def test_grows_with_the_rate_and_the_time_to_make_one_ready(self, pooled: Pooled) -> None:
        """Without a single miss: as many as come meanwhile, twice over."""
        pid = serve(pooled, least=2, most=100, count_every=HOUR)  # the rate is not forgotten, however long this takes
        pooled.await_state(PoolState.IDLE, 2)
        zygote = pooled.zygote(pid)
        served, begun = 0, time.monotonic()

        def one_waits() -> bool:
            """One that serves is counted as parked until it is heard that it does."""
            return sum(pooled.outcome()) == served and pooled.state(PoolState.IDLE) > 0

        while served < 20 or time.monotonic() < begun + 1:  # so that the rate is known
            wait_for(one_waits, "one is parked, and serves nobody")
            finish([echo(pooled.connect())])
            served += 1
        each = (time.monotonic() - begun) / served
        wait_for(one_waits, "one is parked, and serves nobody")
        stop(zygote)
        wait_for(lambda: pooled.state(PoolState.IDLE) == len(pooled.pool(pid)) - 1, "all that were forked wait")
        before = pooled.state(PoolState.IDLE)
        last = echo(pooled.connect())
        go_on_at = time.monotonic() + (4 * before + 20) * each  # so many would come until the next one is ready
        wait_for(lambda: time.monotonic() > go_on_at, "it takes long", timeout=600)
        go_on(zygote)
        wait_for(lambda: pooled.state(PoolState.IDLE) > before + 2, "more are parked")
        finish([last])
        pooled.await_calm()
        assert pooled.outcome() == (served + 1, 0)

    def test_shrinks_after_some_seconds(self, pooled: Pooled) -> None:
        """By halves, and to what is kept; nobody is told of it, and no zygote is lost."""
        pid = serve(pooled, least=2, most=64, count_every=SECOND // 5)
        zygote = pooled.zygote(pid)
        pooled.await_state(PoolState.IDLE, 2)
        stop(zygote)
        clients = [pooled.connect() for _ in range(8)]
        wait_for(lambda: pooled.counters.accepted == 8, "so much more is wanted")
        go_on(zygote)
        finish(clients)
        wait_for(lambda: pooled.recycled(Recycling.SPARE) > 8, "many have been parked, and leave", timeout=60)
        wait_for(lambda: pooled.state(PoolState.IDLE) == 2, "two are left", timeout=60)
        assert pooled.recycled(Recycling.DIED) == 0
        wait_for(lambda: len(pooled.children(pid)) == 3, "they are reaped")
        assert pooled.zygote(pid) == zygote
        assert pooled.pool_events() == []
        finish([echo(pooled.connect())])
        pooled.await_calm()


class TestDemand:
    """The numbers alone."""

    def test_each_miss_doubles_what_is_wanted_more(self, rules: ModuleType) -> None:
        demand = rules.ParkedDemand(2, 100)
        found = [demand.wanted]
        for _ in range(7):
            demand.miss()
            found.append(demand.wanted)
        assert found == [2, 3, 5, 9, 17, 33, 34, 34]

    def test_no_more_than_may_be(self, rules: ModuleType) -> None:
        demand = rules.ParkedDemand(2, 10)
        for _ in range(7):
            demand.miss()
        assert demand.wanted == 10

    def test_misses_are_forgotten_by_halves(self, rules: ModuleType) -> None:
        demand = rules.ParkedDemand(0, 100)
        for _ in range(6):
            demand.miss()
        found = []
        for number in range(6):
            demand.count_again(0, number * SECOND)
            found.append(demand.wanted)
        assert found == [16, 8, 4, 2, 1, 0]

    def test_as_many_as_come_while_one_is_made_ready_twice_over(self, rules: ModuleType) -> None:
        """A hundred each second, a tenth of a second for each child; nothing is wanted when none has come for long."""
        demand = rules.ParkedDemand(2, 1000)
        for number in range(500):
            demand.arrive(number * SECOND // 100)
            demand.park(SECOND // 10)
        assert 19 <= demand.wanted <= 21
        for number in range(5, 20):
            demand.count_again(0, number * SECOND + SECOND // 2)
        assert demand.wanted == 2

    def test_what_is_too_many_for_a_while_goes_by_halves(self, rules: ModuleType) -> None:
        demand = rules.ParkedDemand(2, 100)
        assert [demand.count_again(12, number * SECOND) for number in range(1, 5)] == [0, 0, 0, 0]
        assert demand.count_again(12, 5 * SECOND) == 5
        assert demand.count_again(7, 6 * SECOND) == 3
        assert demand.count_again(2, 7 * SECOND) == 0
        assert demand.count_again(12, 8 * SECOND) == 0, "it begins anew"


class TestDeath:
    def test_of_one_that_waits(self, pooled: Pooled) -> None:
        pid = serve(pooled, least=3)
        pooled.await_state(PoolState.IDLE, 3)
        zygote = pooled.zygote(pid)
        for number, child in enumerate(pooled.parked(pid)):
            os.kill(child, signal.SIGKILL)
            pooled.await_recycled(Recycling.DIED, number + 1)
            pooled.await_state(PoolState.IDLE, 3)
        assert pooled.zygote(pid) == zygote
        assert pooled.pool_events() == []

    def test_of_one_with_a_connection_on_the_way(self, pooled: Pooled) -> None:
        """Nobody knows whether it had it: all are given up, and the connection is served by exec, once."""
        pid = serve(pooled, least=2, most=2)
        pooled.await_state(PoolState.IDLE, 2)
        zygote, parked = pooled.zygote(pid), pooled.parked(pid)
        stop(*parked, zygote)
        client = pooled.connect()
        wait_for(lambda: pooled.board.handed(pooled.sections[pid]), "it is on the way")
        os.kill(parked[0], signal.SIGKILL)
        echo(client)
        pooled.await_recycled(Recycling.DIED)
        finish([client])
        pooled.balanced(1)
        assert (pooled.outcome(), pooled.by(EXEC)) == ((0, 1), 1)
        wait_for(lambda: not any(process(each) for each in (*parked, zygote)), "they are reaped")
        pooled.await_state(PoolState.IDLE, 2)

    def test_of_the_zygote(self, pooled: Pooled) -> None:
        """Its parked children go with it; its servers stay."""
        pid = serve(pooled)
        pooled.await_state(PoolState.IDLE, 2)
        zygote = pooled.zygote(pid)
        client = echo(pooled.connect())
        wait_for(lambda: pooled.outcome() == (1, 0), "its server is known as that, and not as parked")
        pooled.await_state(PoolState.IDLE, 2)
        parked = pooled.parked(pid)
        os.kill(zygote, signal.SIGKILL)
        pooled.await_recycled(Recycling.DIED)
        wait_for(lambda: not any(process(each) for each in (*parked, zygote)), "they are reaped")
        pooled.await_state(PoolState.IDLE, 2)
        finish([echo(client), echo(pooled.connect())])
        pooled.balanced(2)

    def test_many_answers_at_once(self, pooled: Pooled) -> None:
        """Servers that have come and gone before any of it was heard: each is believed."""
        count = 150
        pid = serve(pooled, least=count, most=count)
        pooled.await_state(PoolState.IDLE, count)
        parked = pooled.parked(pid)
        stop(*parked, pooled.zygote(pid))
        clients = [pooled.connect() for _ in range(count)]
        wait_for(lambda: len(pooled.board.handed(pooled.sections[pid])) == count, "all are on the way")
        stop(pid)
        go_on(*parked)
        for client in clients:
            echo(client).shutdown(socket.SHUT_WR)
        wait_for(lambda: all((each := process(one)) and each.state == "Z" for one in parked), "all have ended")
        go_on(pid)
        assert [everything(client) for client in clients] == [b""] * count
        pooled.balanced(count)
        assert (pooled.outcome(), pooled.by(EXEC), pooled.recycled(Recycling.DIED)) == ((count, 0), 0, 0)

    def test_at_random(self, pooled: Pooled) -> None:
        """Zygotes are killed, and their parked children with them, while clients come: each is served, and once."""
        pid = serve(pooled, least=4, most=16)
        pooled.await_state(PoolState.IDLE, 4)
        dice = random.Random(1)
        served = 0
        for _ in range(60):
            clients = [pooled.connect() for _ in range(8)]
            # A parked child may be a server in the moment in which it is killed; zygotes alone never are.
            zygotes = [each for each in pooled.pool(pid) if "socket" in descriptors(each).get(CONTROL, "")]
            if zygotes and dice.random() < 0.5:
                with suppress(ProcessLookupError):  # what one that was killed before has left ends by itself
                    os.kill(zygotes[0], signal.SIGKILL)
            for client in clients:
                echo(client)
            finish(clients)
            served += len(clients)
        pooled.balanced(served)
        assert sum(pooled.outcome()) == served
        wait_for(lambda: pooled.state(PoolState.IDLE) >= 4, "they are parked again")
        wait_for(lambda: len(pooled.children(pid)) == 1 + pooled.state(PoolState.IDLE), "nobody else is left")


class TestLeaving:
    def test_retired(self, pooled: Pooled) -> None:
        pid = serve(pooled)
        pooled.await_state(PoolState.IDLE, 2)
        client = echo(pooled.connect())
        wait_for(lambda: pooled.outcome() == (1, 0), "its server is known as that, and not as parked")
        pooled.await_state(PoolState.IDLE, 2)
        pool = pooled.pool(pid)
        assert len(pool) == 3
        pooled.retire(pid)
        assert reap(pid) == 0
        wait_for(lambda: not any((it := process(each)) and it.alive for each in pool), "they leave with it")
        assert len(pooled.board.adopt(pooled.sections[pid], 3)) == 1
        finish([echo(client)])

    def test_retired_with_connections_on_the_way(self, pooled: Pooled) -> None:
        pid = serve(pooled)
        pooled.await_state(PoolState.IDLE, 2)
        zygote, parked = pooled.zygote(pid), pooled.parked(pid)
        stop(*parked, zygote)
        clients = [pooled.connect() for _ in range(3)]
        wait_for(lambda: len(pooled.board.handed(pooled.sections[pid])) == 3, "all are with the pool")
        pooled.retire(pid)
        go_on(*parked, zygote)
        assert reap(pid) == 0
        assert len(pooled.board.adopt(pooled.sections[pid], 3)) == 3
        finish([echo(client) for client in clients])
        assert sum(pooled.outcome()) == 3


@pytest.mark.slow
def test_those_who_do_not_answer(pooled: Pooled) -> None:
    """All are stopped: after five seconds they are given up, and nothing is served twice."""
    pid = serve(pooled)
    pooled.await_state(PoolState.IDLE, 2)
    stop(*pooled.parked(pid), pooled.zygote(pid))
    clients = [pooled.connect() for _ in range(3)]
    assert pooled.await_pool_event(PoolEvent.HUNG) == 5
    finish([echo(client) for client in clients])
    pooled.balanced(3)
    assert (pooled.outcome(), pooled.by(EXEC)) == ((0, 3), 3)
    pooled.await_state(PoolState.IDLE, 2)


@pytest.mark.parametrize(
    ("acceptors", "share"),
    [(1, (3, 8, 5)), (2, (2, 4, 3)), (3, (1, 3, 2)), (4, (1, 2, 2)), (8, (1, 1, 1)), (100, (1, 1, 1))],
)
def test_shares(rules: ModuleType, acceptors: int, share: tuple[int, int, int]) -> None:
    """At least one each; together they are no fewer than what is asked for."""
    pool = pool_of(PREFORK, least=3, most=8, workers=5)
    assert rules.shares(program(0, CAT, pool=pool), acceptors) == share
    pool = pool_of(PREFORK, least=0, most=8, workers=5)
    assert rules.shares(program(0, CAT, pool=pool), acceptors)[0] == 0
