"""Who has what a dead acceptor had given to its pools: what is served is accounted for, and that once."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fastinetd._accept import Keeper
from fastinetd._board import Method, RecordKind
from fastinetd._pools import PoolState
from fastinetd.children import HEIR, Children
from fastinetd.takers import children, takers
from support.core import await_end, fork, reap, running
from support.pooled import Pooled, echo, everything, finish, go_on, stop
from support.proc import wait_for

CAT = "/bin/cat"
TOLD = Path(__file__).parents[1] / "support" / "told_worker.py"


class Quiet:
    """Messages that nobody reads."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...


class Supervised:
    """A pool's acceptor, and the supervisor's part in its end, which is this process."""

    def __init__(self, pooled: Pooled) -> None:
        self.pooled = pooled
        assert pooled.board.section_claim(os.getpid()) == HEIR
        self.acceptors: set[int] = set()
        self.children = Children(pooled.board, Keeper(pooled.board, HEIR), lambda row: pooled.program,
                                 self.acceptors.__contains__, lambda: None, lambda seconds, callback: None)

    def serve(self, kind: Method, *argv: str, **values: int) -> int:
        pid = self.pooled.serve(kind, *(argv or (CAT,)), **values)
        self.acceptors.add(pid)
        return pid

    def kill(self, pid: int) -> int:
        """End the acceptor, and adopt its servers; how many they are."""
        os.kill(pid, signal.SIGKILL)
        assert reap(pid) == -signal.SIGKILL
        count = self.children.adopt(self.pooled.sections[pid], crashed=True)
        self.pooled.board.section_release(self.pooled.sections[pid])
        return count

    def left(self) -> set[int]:
        """The children that are there once those that have ended are reaped."""
        self.children.reap()
        return set(children())

    def balanced(self, count: int) -> None:
        def ended() -> bool:
            self.children.reap()
            return not self.pooled.board.slots_in_use()

        wait_for(ended, "all have ended")
        self.pooled.balanced(count)


@pytest.fixture
def supervised(pooled: Pooled) -> Supervised:
    return Supervised(pooled)


def on_the_way(
    supervised: Supervised, pooled: Pooled, kind: Method, count: int
) -> tuple[int, list[int], list[socket.socket]]:
    """So many connections are with a pool whose processes stand still: the acceptor, the pool, the clients."""
    pid = supervised.serve(kind, least=count, most=count)
    pooled.await_state(PoolState.HOLDING, 1)
    if kind == Method.PREFORK:
        pooled.await_state(PoolState.IDLE, count)
    pool = pooled.pool(pid)
    stop(*pool)
    clients = [pooled.connect() for _ in range(count)]
    wait_for(lambda: len(pooled.board.handed(pooled.sections[pid])) == count, "all are with the pool")
    return pid, pool, clients


@pytest.mark.parametrize("kind", [Method.ZYGOTE, Method.PREFORK])
class TestKilled:
    """The acceptor, while connections are on the way."""

    def test_all_are_known(self, supervised: Supervised, pooled: Pooled, kind: Method) -> None:
        pid = supervised.serve(kind, least=2)
        pooled.await_state(PoolState.HOLDING, 1)
        clients = [echo(pooled.connect()) for _ in range(3)]
        wait_for(lambda: sum(pooled.outcome()) == 3, "all are known")
        pool = pooled.pool(pid)
        assert supervised.kill(pid) == 3
        finish([echo(client) for client in clients])
        supervised.balanced(3)
        for each in pool:
            wait_for(lambda: each not in supervised.left(), "nobody is left")  # noqa: B023
        assert pooled.counters.pool == (0, 0, 0, 0)

    def test_taken_and_not_heard(self, supervised: Supervised, pooled: Pooled, kind: Method) -> None:
        """Who has said that he has his connection has it."""
        pid, pool, clients = on_the_way(supervised, pooled, kind, 3)
        stop(pid)
        go_on(*pool)
        for client in clients:
            echo(client)
        assert pooled.of_kind(RecordKind.START) == []
        assert supervised.kill(pid) == 3
        assert len(pooled.of_kind(RecordKind.START)) == 3
        assert {slot.pid for slot in pooled.board.slots_in_use()} <= set(children())
        finish([echo(client) for client in clients])
        supervised.balanced(3)

    def test_not_taken(self, supervised: Supervised, pooled: Pooled, kind: Method) -> None:
        """The connections are closed, and nobody serves them, or is said to."""
        pid, pool, clients = on_the_way(supervised, pooled, kind, 2)
        assert supervised.kill(pid) == 0
        assert (pooled.board.slots_in_use(), pooled.board.live) == ([], 0)
        go_on(*pool)
        assert [everything(client) for client in clients] == [b"", b""]
        wait_for(lambda: not set(pool) & supervised.left(), "nobody is left")
        supervised.balanced(0)


def test_a_workers_connection(supervised: Supervised, pooled: Pooled) -> None:
    """It is in the slot whose it is; the worker ends with it, those that are idle and those who wait end at once."""
    pid = supervised.serve(Method.WORKER, sys.executable, "-SE", str(TOLD), least=1, workers=1)
    pooled.await_state(PoolState.IDLE, 1)
    (worker,) = pooled.pool(pid)
    client = echo(pooled.connect(), b"x\n")
    waiting = pooled.connect()
    wait_for(lambda: len(pooled.board.slots_in_use()) == 2, "it waits")
    assert supervised.kill(pid) == 1
    assert everything(waiting) == b""
    assert [slot.pid for slot in pooled.board.slots_in_use()] == [worker]
    finish([echo(client, b"y\n")])
    supervised.balanced(1)
    assert pooled.counters.pool == (0, 0, 0, 0)


def keep(one: socket.socket, other: socket.socket) -> None:
    """Have one end only, until something comes."""
    other.close()
    one.recv(1)


class TestTakers:
    @pytest.fixture
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        one, other = socket.socketpair()
        with one, other:
            yield one, other

    def test_by_inode(self, pair: tuple[socket.socket, socket.socket]) -> None:
        one, other = pair
        inodes = [os.fstat(each.fileno()).st_ino for each in pair]
        both = [(7, inodes[0]), (5, inodes[1])]
        with running(partial(keep, one, other)) as first, running(partial(keep, other, one)) as second:
            wait_for(lambda: takers(both, ()) == {7: first, 5: second}, "both are found")
            assert takers(both, [first]) == {5: second}
            assert takers([(5, 1), (6, 0)], ()) == {}
            assert takers([], ()) == {}
            assert {first, second} <= set(children())
            os.kill(first, signal.SIGKILL)
            await_end(first)
            assert takers(both, ()) == {5: second}, "nothing is a zombie's"
        assert not {first, second} & set(children())

    def test_who_has_several_has_taken_none(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """As a process that the acceptor was just starting has, before exec, what was open in the acceptor."""
        both = [(7 + count, os.fstat(each.fileno()).st_ino) for count, each in enumerate(pair)]
        with running(signal.pause) as copy:
            assert copy in children()
            assert takers(both, ()) == {}
            assert takers(both[:1], ()) == {7: copy}

    def test_the_youngest_has_it(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the time of its start, not by its number: those begin anew."""
        with running(signal.pause) as fork_of_it, running(signal.pause) as zygote:
            times = {fork_of_it: 200, zygote: 100}
            monkeypatch.setattr("fastinetd.takers.started_at", lambda pid: times.get(pid, 0))
            assert takers([(7, os.fstat(pair[0].fileno()).st_ino)], ()) == {7: fork_of_it}

    def test_children_without_the_kernels_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some kernels have none (CONFIG_PROC_CHILDREN)."""
        pid = fork(signal.pause)
        known = children()

        def read_text(path: Path, *args: object) -> str:
            if path.name == "children":
                raise FileNotFoundError(path)
            return before(path)

        before = Path.read_text
        monkeypatch.setattr(Path, "read_text", read_text)
        assert pid in known
        assert sorted(children()) == sorted(known)
        monkeypatch.undo()
        os.kill(pid, signal.SIGKILL)
        reap(pid)
