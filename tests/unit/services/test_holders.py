"""Who has what a dead acceptor had given to its pools: what is served is accounted for, and that once."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Method, RecordKind
from fastinetd.core.records import HandedConnection
from fastinetd.pools.pool import PoolState
from fastinetd.services.children import HEIR, Children
from fastinetd.services.holders import holders_of
from fastinetd.system.last_reader import call_after_last_reader
from fastinetd.system.loop import Loop
from fastinetd.system.processes import list_children
from support.clients import everything
from support.core import await_end, close_loop, fork, reap, running, until
from support.pooled import Pooled, echo, finish, go_on, stop
from support.proc import wait_for
from support.told import TOLD

CAT = "/bin/cat"
CLONE_FILES = 0x400  # linux/sched.h


class Quiet:
    """Messages that nobody reads."""

    def info(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...


class Copy:
    """A process that has all that an acceptor has open, now and later, as what it starts does at first."""

    def __init__(self) -> None:
        self._said, self._say = os.pipe()
        self._stack = ctypes.create_string_buffer(65536)

    def make(self) -> None:
        """In the acceptor."""
        libc = ctypes.CDLL(None, use_errno=True)
        top = (ctypes.addressof(self._stack) + len(self._stack)) // 64 * 64
        pid = libc.clone(libc.pause, ctypes.c_void_p(top), CLONE_FILES | signal.SIGCHLD, None)
        assert pid > 0, os.strerror(ctypes.get_errno())
        os.write(self._say, pid.to_bytes(4, sys.byteorder))

    @cached_property
    def pid(self) -> int:
        return int.from_bytes(os.read(self._said, 4), sys.byteorder)

    def end(self) -> None:
        """It comes to exec, or ends: what it had is closed."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._said)
        os.close(self._say)


class Supervised:
    """A pool's acceptor, and the supervisor's part in its end, which is this process."""

    def __init__(self, pooled: Pooled, loop: Loop) -> None:
        self.loop = loop
        self.pooled = pooled
        assert pooled.board.section_claim(os.getpid()) == HEIR
        services: Any = SimpleNamespace(program_of=lambda row: pooled.program)
        journal: Any = SimpleNamespace(wake=lambda: None)
        keeper = Keeper(pooled.board, HEIR)
        self.children = Children(pooled.board, loop, keeper, services, journal)

    def serve(self, kind: Method, *argv: str, first: Callable[[], object] = lambda: None, **values: Any) -> int:
        """The pid of an acceptor of this service; `first` and `values` are Pooled's."""
        self.pooled.plan(kind, *(argv or (CAT,)), **values)
        return self.start(first)

    def start(self, first: Callable[[], object] = lambda: None) -> int:
        pid = self.pooled.start(first=first)
        self.children.role_forked(pid)
        return pid

    def kill(self, pid: int) -> int:
        """End the acceptor, and adopt its servers; how many there are now."""
        os.kill(pid, signal.SIGKILL)
        assert reap(pid) == -signal.SIGKILL
        return self.inherit(pid, crashed=True)

    def leave_alone(self, pid: int) -> int:
        """Let the acceptor leave at once, as if there were no supervisor any more; likewise."""
        os.close(self.pooled.controls.pop(pid))
        assert reap(pid) == 0
        return self.inherit(pid, crashed=False)

    def inherit(self, pid: int, *, crashed: bool) -> int:
        handed = self.children.adopt(self.pooled.sections[pid], crashed=crashed)
        if handed:
            control = self.pooled.controls.pop(pid, -1)
            call_after_last_reader(self.loop, control, lambda: self.children.find_holders(handed))
        self.pooled.board.section_release(self.pooled.sections[pid])
        return self.known()

    def known(self) -> int:
        """Slots of which it is known who serves them."""
        return sum(slot.pid != 0 for slot in self.pooled.board.slots_in_use())

    def left(self) -> set[int]:
        """The children that are there once those that have ended are reaped."""
        self.children.reap()
        return set(list_children())

    def balanced(self, count: int) -> None:
        self.await_calm()
        self.pooled.balanced(count)

    def await_calm(self) -> None:
        def ended() -> bool:
            self.children.reap()
            return not self.pooled.board.slots_in_use()

        wait_for(ended, "all have ended")


@pytest.fixture
def supervised(pooled: Pooled) -> Iterator[Supervised]:
    loop = Loop(pytest.fail)
    yield Supervised(pooled, loop)
    close_loop(loop)


def on_the_way(
    supervised: Supervised, pooled: Pooled, kind: Method, count: int, copy: Copy | None = None, **values: Any
) -> tuple[int, list[int], list[socket.socket]]:
    """So many connections are with a pool whose processes stand still: the acceptor, the pool, the clients. `values`
    are of Pooled.plan."""
    first = (lambda: None) if copy is None else copy.make
    pid = supervised.serve(kind, first=first, least=count, most=count, **values)
    pooled.await_state(PoolState.HOLDING, 1)
    if kind == Method.PREFORK:
        pooled.await_state(PoolState.IDLE, count)
    pool = [each for each in pooled.pool(pid) if copy is None or each != copy.pid]
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
        assert {slot.pid for slot in pooled.board.slots_in_use()} <= set(list_children())
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


class TestKilledInTheMidstOfAStart:
    """What the acceptor was just starting has its sockets open still: whoever is with a pool can say who he is."""

    def test_taken_afterwards(self, supervised: Supervised, pooled: Pooled) -> None:
        """By parked children: a zygote ends with its acceptor, and what it has forked has its connection by then."""
        copy = Copy()
        pid, pool, clients = on_the_way(supervised, pooled, Method.PREFORK, 3, copy, limits={"instances": 3})
        assert supervised.kill(pid) == 0
        assert pooled.board.live == 3, "they may still get their servers"
        go_on(*pool)
        for client in clients:
            echo(client)
        other = supervised.start()
        assert everything(pooled.connect()) == b"", "no more than three"
        copy.end()
        until(supervised.loop, lambda: supervised.known() == 3, "all are known")
        assert len(pooled.of_kind(RecordKind.START)) == 3
        assert {slot.pid for slot in pooled.board.slots_in_use()} <= set(list_children())
        assert everything(pooled.connect()) == b"", "nor now"
        finish([echo(client) for client in clients])
        supervised.balanced(3)
        assert supervised.kill(other) == 0

    @pytest.mark.parametrize("kind", [Method.ZYGOTE, Method.PREFORK])
    def test_not_taken(self, supervised: Supervised, pooled: Pooled, kind: Method) -> None:
        """The places are given back when that has ended, and not before."""
        copy = Copy()
        pid, pool, clients = on_the_way(supervised, pooled, kind, 2, copy)
        assert supervised.kill(pid) == 0
        assert pooled.board.live == 2
        copy.end()
        until(supervised.loop, lambda: pooled.board.live == 0, "the places are given back")
        assert pooled.board.slots_in_use() == []
        go_on(*pool)
        assert [everything(client) for client in clients] == [b"", b""]
        wait_for(lambda: not set(pool) & supervised.left(), "nobody is left")
        supervised.balanced(0)


class TestLeftAlone:
    """The acceptor leaves at once, in good order, and what it had in hand is dropped and not counted any more."""

    @pytest.mark.parametrize("kind", [Method.ZYGOTE, Method.PREFORK])
    def test_on_the_way(self, supervised: Supervised, pooled: Pooled, kind: Method) -> None:
        """Those that stood still are woken, so some may be taken."""
        pid, _, clients = on_the_way(supervised, pooled, kind, 2)
        assert supervised.leave_alone(pid) == len(pooled.board.slots_in_use()) == pooled.board.live
        finish(clients)
        supervised.await_calm()
        pooled.balanced(len(pooled.of_kind(RecordKind.START)))

    def test_waiting_for_a_worker(self, supervised: Supervised, pooled: Pooled) -> None:
        pid = supervised.serve(Method.WORKER, sys.executable, "-SE", str(TOLD), least=1, workers=1)
        pooled.await_state(PoolState.IDLE, 1)
        client = echo(pooled.connect(), b"x\n")
        waiting = pooled.connect()
        wait_for(lambda: len(pooled.board.slots_in_use()) == 2, "it waits")
        assert supervised.leave_alone(pid) == 1
        assert pooled.board.live == 1
        assert everything(waiting) == b""
        finish([echo(client, b"y\n")])
        supervised.balanced(1)


def test_a_worker_that_stands_still(supervised: Supervised, pooled: Pooled) -> None:
    """Its connection is in its socket, which it looks into after its acceptor's death: it is counted all the time."""
    pid = supervised.serve(Method.WORKER, sys.executable, "-SE", str(TOLD), least=1, workers=1)
    pooled.await_state(PoolState.IDLE, 1)
    (worker,) = pooled.pool(pid)
    stop(worker)
    client = pooled.connect()
    pooled.await_state(PoolState.BUSY, 1)
    assert supervised.kill(pid) == 1
    assert [slot.pid for slot in pooled.board.slots_in_use()] == [worker]
    go_on(worker)
    finish([echo(client, b"y\n")])
    supervised.balanced(1)


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
        both = [HandedConnection(7, inodes[0]), HandedConnection(5, inodes[1])]
        with running(partial(keep, one, other)) as first, running(partial(keep, other, one)) as second:
            wait_for(lambda: holders_of(both, ()) == {7: first, 5: second}, "both are found")
            assert holders_of(both, [first]) == {5: second}
            assert holders_of([HandedConnection(5, 1), HandedConnection(6, 0)], ()) == {}
            assert holders_of([], ()) == {}
            assert {first, second} <= set(list_children())
            os.kill(first, signal.SIGKILL)
            await_end(first)
            assert holders_of(both, ()) == {5: second}, "nothing is a zombie's"
        assert not {first, second} & set(list_children())

    def test_no_descriptor_to_see_it_by(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody is said to have nothing because of that."""
        one, other = pair
        handed = [HandedConnection(7, os.fstat(one.fileno()).st_ino)]
        with running(partial(keep, one, other)) as pid:
            wait_for(lambda: holders_of(handed, ()) == {7: pid}, "it is found")
            monkeypatch.setattr("fastinetd.system.processes.list_children", lambda: [pid])
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    holders_of(handed, ())
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)

    def test_who_has_several_has_taken_none(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """As a process that the acceptor was just starting has, before exec, what was open in the acceptor."""
        both = [HandedConnection(7 + count, os.fstat(each.fileno()).st_ino) for count, each in enumerate(pair)]
        with running(signal.pause) as copy:
            assert copy in list_children()
            assert holders_of(both, ()) == {}
            assert holders_of(both[:1], ()) == {7: copy}

    def test_the_youngest_has_it(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the time of its start, not by its number: those begin anew."""
        with running(signal.pause) as fork_of_it, running(signal.pause) as zygote:
            times = {fork_of_it: 200, zygote: 100}
            monkeypatch.setattr("fastinetd.services.holders.start_time_of", lambda pid: times.get(pid, 0))
            handed = [HandedConnection(7, os.fstat(pair[0].fileno()).st_ino)]
            assert holders_of(handed, ()) == {7: fork_of_it}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may leave /proc behind")
    def test_nobody_is_found_without_proc(self, tmp_path: Path) -> None:
        """And it is not looked again and again."""

        def main() -> None:
            os.chroot(tmp_path)
            assert holders_of([HandedConnection(7, 1)], ()) == {}

        assert reap(fork(main)) == 0

    def test_children_without_the_kernels_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some kernels have none (CONFIG_PROC_CHILDREN)."""
        pid = fork(signal.pause)
        known = list_children()

        def read_text(path: Path, *args: object) -> str:
            if path.name == "children":
                raise FileNotFoundError(path)
            return before(path)

        before = Path.read_text
        monkeypatch.setattr(Path, "read_text", read_text)
        assert pid in known
        assert sorted(list_children()) == sorted(known)
        monkeypatch.undo()
        os.kill(pid, signal.SIGKILL)
        reap(pid)
