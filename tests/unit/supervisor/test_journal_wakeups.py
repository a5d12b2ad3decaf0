"""When the journals are read: as records come, and as often as removed services need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Field, RecordKind, Verdict
from fastinetd.core.records import JournalRecord
from fastinetd.services.journal_reader import JournalReader
from fastinetd.supervisor.journal_wakeups import JournalWakeups
from fastinetd.system.loop import Loop
from support.core import close_loop, open_row, program, until


class Kit:
    """A reader, whose records are kept, and a removed service that needs so many more reads."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.written: list[JournalRecord] = []
        self.reads_needed = 0
        self.reads = 0
        self.faults = 0
        self.board = Board.create(1, 8, 1)
        self.loop = Loop(self.errors.append)
        self.keeper = Keeper(self.board, self.board.section_claim(os.getpid()))
        self.program = program(open_row(self.board), "/bin/true", log_failure=sum(Field))
        log: Any = SimpleNamespace(write=self.written.extend, flush=lambda: None)
        removals: Any = SimpleNamespace(free_rows=self.free_rows)
        status: Any = SimpleNamespace(retitle=self.retitle)
        nobody: Any = None
        self.journal = JournalReader(self.board, self.loop, log, nobody, nobody)
        self.wakeups = JournalWakeups(self.board, self.loop, self.journal, removals, status)

    def free_rows(self) -> bool:
        self.reads += 1
        self.reads_needed -= 1
        return self.reads_needed > 0

    def retitle(self) -> None:
        if self.faults:
            self.faults -= 1
            raise ValueError("no title")

    def record(self) -> None:
        """Write a record, as an acceptor does that refuses a client."""
        self.keeper.refuse(self.program, Verdict.ADDRESS, bytes([10, 0, 0, 1]))

    def until(self, condition: Any) -> None:
        until(self.loop, condition, self.errors)

    def until_quiet(self) -> None:
        """Let the loop turn until it waits for a wake-up alone."""
        self.until(lambda: self.wakeups._timer is None)


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    made.wakeups.start()
    yield made
    close_loop(made.loop)
    for descriptor in (made.board.wake, made.board.fd):
        os.close(descriptor)


def test_a_record_is_read_soon(kit: Kit) -> None:
    for count in (1, 2):
        kit.until_quiet()
        kit.record()
        kit.until(lambda count=count: len(kit.written) == count)
    assert {record.kind for record in kit.written} == {RecordKind.FAIL}


def test_nothing_is_read_when_nothing_happens(kit: Kit) -> None:
    kit.until_quiet()
    reads = kit.reads
    kit.loop.later(0.1, kit.loop.stop)
    kit.loop.run()
    assert kit.reads == reads


def test_removed_services_get_the_reads_that_they_need(kit: Kit) -> None:
    """Without a record, and no more of them."""
    kit.until_quiet()
    reads, kit.reads_needed = kit.reads, 6
    kit.journal.wake()
    kit.until(lambda: kit.reads >= reads + 6)
    kit.until_quiet()
    assert kit.reads <= reads + 7


def test_one_wake_up_is_enough_for_many(kit: Kit) -> None:
    kit.until_quiet()
    for _ in range(1000):
        kit.journal.wake()
    reads = kit.reads
    kit.until(lambda: kit.reads > reads)
    kit.until_quiet()
    assert kit.reads <= reads + 2


@pytest.mark.parametrize("asleep", [True, False])
def test_a_fault_in_one_read_is_not_the_end_of_reading(kit: Kit, asleep: bool) -> None:
    if asleep:
        kit.until_quiet()
    kit.faults = 1
    kit.record()
    kit.until(lambda: kit.errors)
    kit.record()
    until(kit.loop, lambda: len(kit.written) == 2, "both are read")
    assert len(kit.errors) == 1
