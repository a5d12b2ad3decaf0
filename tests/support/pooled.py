"""Acceptors of one service with a pool, their Board, and the processes that they have."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from fastinetd._accept import Acceptor
from fastinetd.core.board import Board
from fastinetd.core.layout import Field, Method, RecordKind
from fastinetd.core.program import Program
from fastinetd.core.reception import RETIREMENT
from fastinetd.core.records import CounterSums, JournalRecord
from fastinetd.pools.pool import PoolEvent, PoolState, Recycling
from fastinetd.stage.library import library_descriptor
from support.clients import everything
from support.core import fork, open_row, pool_of, program
from support.lacking import missing
from support.proc import PATIENCE, Offspring, Process, below, descriptors, process, wait_for

ALL = sum(Field)
SLOTS = 512
CONTROL = 62
"""Where a zygote has its socket to the acceptor; its parked children have closed it."""


class Pooled:
    """Acceptors with one listener in common."""

    def __init__(self) -> None:
        self.offspring = Offspring()
        self.board = Board.create(2, SLOTS, 4)
        self.board.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=SLOTS)
        self.listener.setblocking(False)
        self.program = program(0)
        self.row = -1
        self.sections: dict[int, int] = {}
        self.controls: dict[int, int] = {}
        self.records: list[JournalRecord] = []
        self.clients: list[socket.socket] = []

    # ---- what it serves ----

    def plan(self, kind: Method, *argv: str, limits: dict[str, Any] | None = None, values: dict[str, Any] | None = None,
             **pool: Any) -> Program:
        """The service: `pool` are Pool's attributes, `values` Program's, `limits` the row's."""
        self.row = open_row(self.board, **(limits or {}))
        asked: dict[str, Any] = {"least": 0, "most": 32, "workers": 32, "library": library_descriptor(), **pool}
        self.program = program(self.row, *argv, log_success=ALL, log_failure=ALL, pool=pool_of(kind, **asked),
                               **(values or {}))
        return self.program

    def start(self, share: int = 1, first: Callable[[], object] = lambda: None) -> int:
        """Start an acceptor, one of `share`, that calls `first` before it serves; returns its pid."""
        section = self.board.section_claim(0)
        reader, control = os.pipe()

        def main() -> None:
            os.close(control)
            for other in self.controls.values():
                os.close(other)
            self.board.section_own(section, os.getpid())
            first()
            Acceptor(self.board, section, [(self.listener.fileno(), self.program)], reader, -1, share).run()

        pid = fork(main)
        os.close(reader)
        self.sections[pid], self.controls[pid] = section, control
        return pid

    def serve(self, kind: Method, *argv: str, **values: Any) -> int:
        """Plan, and start one acceptor."""
        self.plan(kind, *argv, **values)
        return self.start()

    def retire(self, pid: int) -> None:
        os.write(self.controls[pid], RETIREMENT)

    def connect(self) -> socket.socket:
        """A connected client, closed at the end of the test if not before."""
        client = socket.create_connection(self.listener.getsockname(), PATIENCE)
        self.clients.append(client)
        return client

    # ---- what it says ----

    @property
    def counters(self) -> CounterSums:
        return self.board.counters(self.row)

    def state(self, which: PoolState) -> int:
        return self.counters.pool[which]

    def recycled(self, why: Recycling) -> int:
        return self.counters.recycled[why]

    def by(self, method: Method) -> int:
        """Connections that came to a server by `method`."""
        return sum(self.counters.latency[method])

    def outcome(self) -> tuple[int, int]:
        """Hits and misses."""
        return self.counters.pool_hits, self.counters.pool_misses

    def await_state(self, which: PoolState, count: int) -> None:
        wait_for(lambda: self.state(which) == count, lambda: f"{count} {which!r}, not {self.counters.pool}")

    def await_recycled(self, why: Recycling, count: int = 1) -> None:
        wait_for(lambda: self.recycled(why) >= count, lambda: f"{count} {why!r}, not {self.counters.recycled}")

    def await_calm(self) -> None:
        """Wait until all connections have ended and their ends are recorded."""
        wait_for(lambda: not self.board.slots_in_use(), lambda: f"all have ended: {self.board.slots_in_use()}")

    def of_kind(self, kind: RecordKind) -> list[JournalRecord]:
        """All records of a kind so far."""
        while records := self.board.take_records():
            self.records += records
        return [record for record in self.records if record.kind == kind]

    def pool_events(self) -> list[tuple[PoolEvent, int]]:
        """The events of the pool so far."""
        return [(PoolEvent(record.reason), record.value) for record in self.of_kind(RecordKind.POOL)]

    def await_pool_event(self, event: PoolEvent) -> int:
        """Wait for an event of the pool; returns the value of the first one."""
        seen = wait_for(lambda: [each for each in self.pool_events() if each[0] == event], lambda: f"{event!r}")
        return seen[0][1]

    def balanced(self, count: int) -> None:
        """Assert that so many servers have started and ended, and that the Board has nothing left of them."""
        self.await_calm()
        starts, exits = ([record.pid for record in self.of_kind(kind)] for kind in (RecordKind.START, RecordKind.EXIT))
        assert sorted(starts) == sorted(exits)
        assert len(starts) == count
        assert self.board.live == self.board.row_live(self.row) == 0
        assert self.board.consistent()

    # ---- its processes ----

    def children(self, pid: int) -> list[Process]:
        return [each for each in below(pid).values() if each.parent == pid]

    def pool(self, pid: int) -> list[int]:
        """The children of an acceptor that serve no connection."""
        servers = {slot.pid for slot in self.board.slots_in_use()}
        return [each.pid for each in self.children(pid) if each.pid not in servers and each.alive]

    def zygote(self, pid: int) -> int:
        """Wait for the acceptor's zygote to be held; returns its pid."""
        self.await_state(PoolState.HOLDING, 1)
        return self._held(pid)

    def parked(self, pid: int) -> list[int]:
        held = self._held(pid)
        return [each for each in self.pool(pid) if each != held]

    def _held(self, pid: int) -> int:
        """The zygote has its control socket alone: a child that says it is parked has it for a moment more."""
        may_look()

        def found() -> list[int]:
            return [each for each in self.pool(pid) if "socket" in descriptors(each).get(CONTROL, "")]

        return wait_for(lambda: each if len(each := found()) == 1 else [], found)[0]

    # ---- the end ----

    def close(self) -> None:
        self.offspring.end()
        for each in (self.listener, *self.clients):
            each.close()
        for descriptor in (*self.controls.values(), self.board.wake, self.board.fd):
            os.close(descriptor)


def may_look() -> None:
    """Zygotes and parked children show their descriptors to nobody but root."""
    if os.geteuid() != 0:
        missing("needs root to look into processes that wait")


def stop(*pids: int) -> None:
    """Send SIGSTOP, and wait until the processes are stopped."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all((each := process(pid)) and each.state == "T" for pid in pids), f"{pids} are stopped")


def go_on(*pids: int) -> None:
    """Send SIGCONT to those of the processes that still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def echo(client: socket.socket, word: bytes = b"x") -> socket.socket:
    """Assert that the client has a server that sends back what it gets; returns the client."""
    client.sendall(word)
    heard = b""
    while len(heard) < len(word):
        part = client.recv(100)
        assert part, f"closed after {heard!r}"
        heard += part
    assert heard == word
    return client


def finish(clients: Sequence[socket.socket]) -> None:
    """Close the clients' sending sides, assert that nothing more comes, and close them."""
    for client in clients:
        client.shutdown(socket.SHUT_WR)
    for client in clients:
        assert everything(client) == b""
