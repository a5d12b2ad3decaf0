"""Zygotes: a connection is served by a fork of the held program, or by exec as long as there is none."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from fastinetd.core.layout import Method, RecordKind, Status
from fastinetd.core.reception import Reception
from fastinetd.pools.pool import HeldAt, PoolEvent, PoolState, Recycling
from fastinetd.pools.system_calls import name_of_call
from support.clients import everything
from support.core import await_end, fork, reap
from support.pooled import Pooled, echo, finish, go_on, stop
from support.proc import PATIENCE, descriptors, process, wait_for
from support.stage import compiled

CAT = "/bin/cat"
ZYGOTE, EXEC = Method.ZYGOTE, Method.EXEC
THREADS, FILES = 1, 2
SECOND = 10**9
WAITS = 'case "$REMOTE_HOST" in "") read x < "$0";; esac; cat'
"""A shell script that waits for its first argument, a pipe, to be written unless it knows of a client."""

PYTHON = os.path.realpath(sys.executable)


def is_gone(pid: int) -> bool:
    return process(pid) is None


class TestConnections:
    def test_each_is_a_fork(self, pooled: Pooled) -> None:
        pid = pooled.serve(ZYGOTE, CAT)
        zygote = pooled.zygote(pid)
        clients = [echo(pooled.connect(), b"%d" % number) for number in range(10)]
        wait_for(lambda: pooled.by(ZYGOTE) == 10, "all are known to be served")
        servers = [slot.pid for slot in pooled.board.slots_in_use()]
        assert {(each.pid, each.session) for each in pooled.children(pid)} == {
            (zygote, zygote), *((server, server) for server in servers)
        }  # fmt: skip
        finish(clients)
        pooled.balanced(10)
        assert pooled.outcome() == (10, 0)
        assert pooled.by(EXEC) == 0
        assert pooled.counters.exits[Status.SUCCESS] == 10
        assert 0 < pooled.counters.latency_ns[ZYGOTE] < 10e9 * PATIENCE
        assert [each.pid for each in pooled.children(pid)] == [zygote]

    def test_how_a_server_ends_is_told(self, pooled: Pooled) -> None:
        pooled.serve(ZYGOTE, "/bin/sh", "-c", "read code; exit $code")
        pooled.await_state(PoolState.HOLDING, 1)
        client = pooled.connect()
        client.sendall(b"7\n")
        assert everything(client) == b""
        killed = pooled.connect()
        wait_for(lambda: pooled.by(ZYGOTE) == 2, "the second one runs")
        wait_for(lambda: len(pooled.board.slots_in_use()) == 1, "the first one has ended")
        (slot,) = pooled.board.slots_in_use()
        os.kill(slot.pid, signal.SIGTERM)
        assert everything(killed) == b""
        pooled.balanced(2)
        assert [(each.value, each.signalled) for each in pooled.of_kind(RecordKind.EXIT)] == [
            (7, False), (signal.SIGTERM, True)
        ]  # fmt: skip

    def test_nothing_is_left(self, pooled: Pooled) -> None:
        """No descriptor of the acceptor's, no process."""
        pid = pooled.serve(ZYGOTE, CAT)
        zygote = pooled.zygote(pid)
        finish([echo(pooled.connect())])
        pooled.await_calm()
        before = descriptors(pid), descriptors(zygote)
        for _ in range(5):
            finish([echo(pooled.connect()) for _ in range(20)])
        pooled.await_calm()
        assert (descriptors(pid), descriptors(zygote)) == before
        assert [each.pid for each in pooled.children(pid)] == [zygote]

    def test_limits_come_first(self, pooled: Pooled) -> None:
        pooled.serve(ZYGOTE, CAT, limits={"instances": 2})
        pooled.await_state(PoolState.HOLDING, 1)
        held = [echo(pooled.connect()) for _ in range(2)]
        assert everything(pooled.connect()) == b""
        finish(held)
        pooled.balanced(2)


class TestByExec:
    """The client sees no difference."""

    def test_while_a_zygote_starts(self, pooled: Pooled, folder: Path) -> None:
        gate = folder / "gate"
        os.mkfifo(gate)
        pooled.serve(ZYGOTE, "/bin/sh", "-c", WAITS, str(gate), point=b"first_io")
        pooled.await_state(PoolState.STARTING, 1)
        finish([echo(pooled.connect())])
        assert (pooled.outcome(), pooled.by(EXEC)) == ((0, 1), 1)
        with gate.open("w") as writer:
            writer.write("go\n")
        pooled.await_state(PoolState.HOLDING, 1)
        finish([echo(pooled.connect())])
        pooled.balanced(2)
        assert pooled.outcome() == (1, 1)

    def test_when_a_zygote_is_killed(self, pooled: Pooled) -> None:
        """Its servers live on; another takes its place."""
        pid = pooled.serve(ZYGOTE, CAT)
        clients = []
        for turn in range(3):
            zygote = pooled.zygote(pid)
            clients.append(echo(pooled.connect()))
            os.kill(zygote, signal.SIGKILL)
            clients.append(echo(pooled.connect()))
            pooled.await_recycled(Recycling.DIED, turn + 1)
            wait_for(partial(is_gone, zygote), "it is reaped")
        pooled.await_state(PoolState.HOLDING, 1)
        assert [echo(client) for client in clients] == clients
        finish(clients)
        pooled.balanced(6)
        assert sum(pooled.outcome()) == 6

    def test_what_a_dead_zygote_had_not_read(self, pooled: Pooled) -> None:
        pid = pooled.serve(ZYGOTE, CAT)
        zygote = pooled.zygote(pid)
        stop(zygote)
        clients = [pooled.connect() for _ in range(5)]
        wait_for(lambda: len(pooled.board.handed(pooled.sections[pid])) == 5, "all are with the zygote")
        os.kill(zygote, signal.SIGKILL)
        for client in clients:
            echo(client)
        finish(clients)
        pooled.balanced(5)
        assert (pooled.outcome(), pooled.by(EXEC)) == ((0, 5), 5)

    @pytest.mark.slow
    def test_when_a_zygote_does_not_answer(self, pooled: Pooled) -> None:
        """It is given up after five seconds; nobody serves its connections a second time."""
        pid = pooled.serve(ZYGOTE, CAT)
        zygote = pooled.zygote(pid)
        stop(zygote)
        client = pooled.connect()
        assert pooled.await_pool_event(PoolEvent.HUNG) == 5
        finish([echo(client)])
        wait_for(lambda: is_gone(zygote), "it is reaped")
        pooled.balanced(1)
        assert (pooled.recycled(Recycling.MISTRUSTED), pooled.by(EXEC)) == (1, 1)

    def test_when_no_process_can_be_started(self, pooled: Pooled) -> None:
        pooled.serve(ZYGOTE, "/no/such/program")
        assert pooled.await_pool_event(PoolEvent.NO_START) == 2
        assert everything(pooled.connect()) == b""
        wait_for(lambda: sum(pooled.counters.spawn_failures) == 1, "exec failed too")

    def test_a_program_that_ends_early(self, pooled: Pooled, folder: Path) -> None:
        pooled.serve(ZYGOTE, "/bin/sh", "-c", 'case "$REMOTE_HOST" in "") exit 3;; esac; cat', point=b"first_io")
        assert pooled.await_pool_event(PoolEvent.DIED_EARLY) == 3
        finish([echo(pooled.connect())])
        pooled.balanced(1)
        assert pooled.recycled(Recycling.MISTRUSTED) >= 1
        assert (pooled.outcome(), pooled.state(PoolState.HOLDING)) == ((0, 1), 0)

    def test_a_program_that_is_killed_early(self, pooled: Pooled) -> None:
        pooled.serve(ZYGOTE, PYTHON, "-c", "import ctypes; ctypes.string_at(0)", point=b"first_io")
        assert pooled.await_pool_event(PoolEvent.DIED_EARLY) == -signal.SIGSEGV

    def test_a_program_with_threads(self, pooled: Pooled, folder: Path, need: Callable[[str], str]) -> None:
        need("gcc")
        library = compiled(folder, """
            #include <pthread.h>
            #include <unistd.h>
            static void *thread(void *unused) { for (;;) pause(); }
            static pthread_t id;
            __attribute__((constructor)) static void early(void) { pthread_create(&id, 0, thread, 0); }
            """, "-shared", "-fPIC")  # fmt: skip
        pooled.serve(ZYGOTE, CAT, values={"environ": [b"LD_PRELOAD=" + os.fsencode(library)]})
        assert pooled.await_pool_event(PoolEvent.UNHOLDABLE) == THREADS
        finish([echo(pooled.connect())])
        pooled.balanced(1)
        assert (pooled.by(EXEC), pooled.outcome()) == (1, (0, 1))

    def test_a_program_with_many_files(self, pooled: Pooled, folder: Path) -> None:
        script = folder / "script"
        script.write_text("import sys\nkept = [open(__file__) for _ in range(300)]\nsys.stdin.readline()\n")
        pooled.serve(ZYGOTE, PYTHON, str(script), point=b"first_io")
        assert pooled.await_pool_event(PoolEvent.UNHOLDABLE) == FILES

    def test_a_program_that_says_what_is_not_understood(
        self, pooled: Pooled, folder: Path, need: Callable[[str], str],
    ) -> None:  # fmt: skip
        """Something in it knows of the acceptor's socket."""
        need("gcc")
        library = compiled(folder, """
            #include <unistd.h>
            __attribute__((constructor)) static void early(void) { write(62, "nonsense", 8); }
            """, "-shared", "-fPIC")  # fmt: skip
        pooled.serve(ZYGOTE, CAT, values={"environ": [b"LD_PRELOAD=" + os.fsencode(library)]})
        pooled.await_pool_event(PoolEvent.UNINTELLIGIBLE)
        pooled.await_recycled(Recycling.MISTRUSTED)
        finish([echo(pooled.connect())])
        pooled.balanced(1)
        assert (pooled.by(EXEC), pooled.state(PoolState.HOLDING)) == (1, 0)

    def test_a_program_that_is_not_ready(self, pooled: Pooled, folder: Path) -> None:
        os.mkfifo(folder / "gate")
        pooled.serve(ZYGOTE, "/bin/sh", "-c", WAITS, str(folder / "gate"), point=b"first_io", ready_within=SECOND // 2)
        assert pooled.await_pool_event(PoolEvent.TOO_SLOW) == 0
        finish([echo(pooled.connect())])
        pooled.balanced(1)
        assert pooled.recycled(Recycling.MISTRUSTED) >= 1


def test_replaced_faster_than_they_end(pooled: Pooled, steps: ModuleType) -> None:
    """As by reload upon reload of a busy machine: when all places are with zygotes that have not ended yet, there is
    another attempt soon, and the pool does not stay without any."""
    program = pooled.plan(ZYGOTE, CAT)
    section = pooled.board.section_claim(0)
    reader, control = os.pipe()

    def main() -> None:
        pooled.board.section_own(section, os.getpid())
        listeners = [(pooled.listener.fileno(), program)]
        acceptor = steps.ZygoteSteps(Reception(pooled.board, section, listeners, reader, -1), program)
        for _ in range(4):
            acceptor.look_after()
            acceptor.replace()
        acceptor.look_after()
        assert pooled.recycled(Recycling.CHANGED) == 4
        assert pooled.state(PoolState.STARTING) == 0
        assert acceptor.due_within(1)

    pid = fork(main)
    os.close(reader)
    os.close(control)
    assert reap(pid) == 0


def test_pauses(rules: ModuleType) -> None:
    assert rules.pauses(11) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


def test_failures_pause_longer_and_longer(pooled: Pooled) -> None:
    pooled.serve(ZYGOTE, "/no/such/program")
    wait_for(lambda: len(pooled.of_kind(RecordKind.POOL)) >= 5, "five attempts")
    times = [record.when for record in pooled.of_kind(RecordKind.POOL)][:5]
    for number, (one, other) in enumerate(pairwise(times)):
        assert 0.1 * 2**number - 0.05 < other - one < 0.1 * 2**number + 2


class TestChangedPrograms:
    def test_is_replaced(self, pooled: Pooled, folder: Path) -> None:
        """The program is another one: connections under way go on, and the next zygote holds the new program."""
        path = folder / "server"
        shutil.copy(CAT, path)
        pid = pooled.serve(ZYGOTE, str(path), files=(os.fsencode(path),))
        zygote = pooled.zygote(pid)
        under_way = echo(pooled.connect())
        shutil.copy("/bin/echo", folder / "new")
        (folder / "new").rename(path)

        def changed() -> bool:
            """It is looked at once a second."""
            client = pooled.connect()
            client.sendall(b"y\n")
            answers.append(client.recv(10))
            client.close()
            return pooled.recycled(Recycling.CHANGED) == 1

        answers: list[bytes] = []
        wait_for(changed, "it has been noticed")
        assert set(answers[:-1]) <= {b"y\n"}
        assert answers[-1] == b"\n"
        wait_for(lambda: process(zygote) is None, "the old one is gone")
        assert pooled.zygote(pid) != zygote
        assert everything(pooled.connect()) == b"\n"
        finish([echo(under_way)])
        pooled.await_calm()
        assert pooled.recycled(Recycling.CHANGED) == 1
        assert pooled.pool_events() == []

    def test_touched_is_changed_and_other_files_are_not(self, pooled: Pooled, folder: Path) -> None:
        script, other = folder / "script", folder / "other"
        script.write_text("cat")
        pid = pooled.serve(ZYGOTE, "/bin/sh", str(script), files=(b"/bin/sh", os.fsencode(script)))
        zygote = pooled.zygote(pid)
        other.write_text("")
        finish([echo(pooled.connect())])
        assert pooled.zygote(pid) == zygote
        script.write_text("cat ")

        def noticed() -> bool:
            finish([echo(pooled.connect())])
            return pooled.recycled(Recycling.CHANGED) > 0

        wait_for(noticed, "it has been noticed")
        assert pooled.zygote(pid) != zygote


class TestLeaving:
    def test_retired_with_connections_in_hand(self, pooled: Pooled) -> None:
        """It waits until it is known who has them; then they are the supervisor's."""
        pid = pooled.serve(ZYGOTE, CAT)
        zygote = pooled.zygote(pid)
        stop(zygote)
        clients = [pooled.connect() for _ in range(3)]
        wait_for(lambda: len(pooled.board.handed(pooled.sections[pid])) == 3, "all are with the zygote")
        pooled.retire(pid)
        listener = f"socket:[{os.fstat(pooled.listener.fileno()).st_ino}]"
        wait_for(lambda: listener not in descriptors(pid).values(), "it has given up the listener")
        go_on(zygote)
        for client in clients:
            echo(client)
        assert reap(pid) == 0
        await_end(zygote)
        adopted = pooled.board.adopt(pooled.sections[pid], 3)
        assert sorted(server for _, server, _ in adopted) == sorted(slot.pid for slot in pooled.board.slots_in_use())
        assert len(adopted) == 3
        for client in clients:
            echo(client).close()

    def test_left_alone(self, pooled: Pooled) -> None:
        pid = pooled.serve(ZYGOTE, CAT)
        zygote = pooled.zygote(pid)
        client = echo(pooled.connect())
        os.close(pooled.controls[pid])
        pooled.controls.pop(pid)
        assert reap(pid) == 0
        await_end(zygote)
        echo(client).close()


def test_snapshots(pooled: Pooled, folder: Path, need: Callable[[str], str]) -> None:
    """first_io, with what it has done before in the open; at main only if it cannot be had, which is said."""
    script = folder / "script"
    script.write_text("x=$BASHPID; read y; echo $x")
    pooled.serve(ZYGOTE, need("bash"), str(script), point=b"first_io")
    pooled.await_state(PoolState.HOLDING, 1)

    def ask() -> bytes:
        client = pooled.connect()
        client.sendall(b"\n")
        return everything(client)

    answers = {ask() for _ in range(3)}
    said = {event for event, _ in pooled.pool_events()}
    assert (len(answers) == 1) != (PoolEvent.HELD_AT_MAIN in said)
    pooled.balanced(3)


def test_held_early(pooled: Pooled, folder: Path) -> None:
    """A fork would not copy what it has started: there the program is held, and which call it was is said."""
    script = folder / "script"
    script.write_text("import os, sys\nos.eventfd(0)\nprint(sys.stdin.readline(), end='', flush=True)\n")
    pooled.serve(ZYGOTE, PYTHON, str(script), point=b"first_io")
    pooled.await_state(PoolState.HOLDING, 1)
    assert everything(echo(pooled.connect(), b"word\n")) == b""
    pooled.balanced(1)
    assert [event for event, _ in pooled.pool_events()] in ([PoolEvent.HELD_EARLY], [PoolEvent.HELD_AT_MAIN])
    ((point, call),) = pooled.board.held(pooled.row)
    assert point in (HeldAt.EARLY, HeldAt.UNSUPPORTED)
    assert point == HeldAt.UNSUPPORTED or name_of_call(call) == "eventfd2"


def test_held_at_once(pooled: Pooled) -> None:
    """Where nothing is gained, that is said."""
    pooled.serve(ZYGOTE, "/bin/sleep", "100", point=b"first_io")
    pooled.await_state(PoolState.HOLDING, 1)
    assert [event for event, _ in pooled.pool_events()] in ([PoolEvent.HELD_AT_ONCE], [PoolEvent.HELD_AT_MAIN])
    ((point, _),) = pooled.board.held(pooled.row)
    assert point in (HeldAt.AT_START, HeldAt.UNSUPPORTED)


def test_where_it_is_held_is_told_while_it_is(pooled: Pooled) -> None:
    pid = pooled.serve(ZYGOTE, CAT)
    pooled.await_state(PoolState.HOLDING, 1)
    assert pooled.board.held(pooled.row) == {(HeldAt.MAIN, 0xFFFFFFFF): 1}
    os.kill(pid, signal.SIGKILL)
    reap(pid)
    pooled.board.section_release(pooled.sections.pop(pid))
    assert pooled.board.held(pooled.row) == {}
