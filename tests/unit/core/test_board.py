"""The Board from Python: rows, slots, sections, journal, status; what a reader can and cannot do."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator

import pytest

from fastinetd.core.board import Board
from fastinetd.core.counters import ERRNO_NAMES, LATENCY_BOUNDS, SESSION_BOUNDS
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Field, Method, RecordKind, SlotState, Verdict
from support.accounts import Accounts
from support.core import fork, open_row, program, reap

HERE = bytes([127, 0, 0, 1])
SLOTS = 16
SHOW = int(Field.SHOW_HOST)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(4, SLOTS, 3)
    made.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield made
    os.close(made.wake)
    os.close(made.fd)


def refuse(keeper: Keeper, row: int, times: int = 1) -> None:
    """Write FAIL records."""
    for number in range(times):
        keeper.refuse(program(row, log_failure=SHOW), Verdict.ADDRESS, HERE, number % 65536)


class TestRows:
    def test_claimed_until_all_are_used(self, board: Board) -> None:
        assert [board.row_claim() for _ in range(board.rows)] == [0, 1, 2, 3]
        with pytest.raises(LookupError, match="more than 4 services"):
            board.row_claim()
        board.row_release(2)
        assert board.row_claim() == 2

    def test_a_released_row_forgets_limits_and_counts(self, board: Board) -> None:
        row = open_row(board, instances=0)
        keeper = Keeper(board, board.section_claim(1))
        refuse(keeper, row)
        assert sum(board.counters(row).rejected) == 1
        board.row_release(row)
        assert Accounts(board, 1).admit(program(row), HERE) == (Verdict.DISABLED, -1)
        assert board.row_claim() == row
        assert sum(board.counters(row).rejected) == 0
        assert board.row_live(row) == 0

    def test_activations_are_counted_over_sections(self, board: Board) -> None:
        row = open_row(board)
        for section in (board.section_claim(1), board.section_claim(2)):
            board.count_activation(section, row)
        assert board.counters(row).activations == 2

    def test_times(self, board: Board) -> None:
        row = open_row(board)
        accounts = Accounts(board, 0)
        for begins, ends, verdict in ((0, 2**40, Verdict.ADMIT), (2**40, 2**41, Verdict.TIME), (0, 1, Verdict.TIME)):
            board.row_times(row, begins, ends)
            assert accounts.admit(program(row), HERE)[0] == verdict

    def test_load(self, board: Board) -> None:
        """The load is never below zero, so a limit of next to nothing is reached by any load but none."""
        row = open_row(board, max_load=1e9)
        assert Accounts(board, 0).admit(program(row), HERE)[0] == Verdict.ADMIT
        if os.getloadavg()[0] > 0.1:
            row = open_row(board, max_load=0.01)
            assert Accounts(board, 0).admit(program(row), HERE) == (Verdict.LOAD, -1)


class TestSections:
    def test_claimed_until_all_are_used(self, board: Board) -> None:
        assert [board.section_claim(os.getpid()) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LookupError):
            board.section_claim(1)
        board.section_release(1)
        assert board.section_claim(0) == 1
        board.section_own(1, 77)
        with pytest.raises(LookupError):
            board.section_claim(1)

    def test_records_of_all_sections_come_in_the_order_of_time(self, board: Board) -> None:
        row = open_row(board)
        keepers = [Keeper(board, board.section_claim(1)) for _ in range(3)]
        for keeper in (*keepers, *reversed(keepers)):
            refuse(keeper, row)
        assert board.depth() == 6
        records = board.take_records()
        assert [record.when for record in records] == sorted(record.when for record in records)
        assert board.depth() == 0
        assert board.take_records() == []


class TestJournal:
    def test_record(self, board: Board) -> None:
        row = open_row(board)
        keeper = Keeper(board, board.section_claim(1))
        keeper.refuse(program(row, log_failure=SHOW), Verdict.PER_SOURCE, bytes(15) + b"\1", 4000)
        (record,) = board.take_records()
        assert (record.row, record.kind, record.reason) == (row, RecordKind.FAIL, Verdict.PER_SOURCE)
        assert (record.address, record.port, record.fields) == ("::1", 4000, SHOW)
        assert (record.pid, record.value, record.signalled, record.seconds) == (0, 0, False, 0)

    def test_without_fields_there_is_a_count_and_no_record(self, board: Board) -> None:
        row = open_row(board)
        Keeper(board, board.section_claim(1)).refuse(program(row), Verdict.RATE, HERE)
        assert board.counters(row).rejected[Verdict.RATE] == 1
        assert board.depth() == 0

    def test_drained_in_parts_and_around_the_end_of_the_ring(self, board: Board) -> None:
        row = open_row(board)
        keeper = Keeper(board, board.section_claim(1))
        seen: list[int] = []
        for _ in range(3):
            refuse(keeper, row, times=3000)
            while records := board.take_records():
                assert len(records) <= 1024
                seen += [record.port for record in records]
        assert seen == [*range(3000)] * 3

    def test_sleep_asks_for_one_wake_up(self, board: Board) -> None:
        row = open_row(board)
        keeper = Keeper(board, board.section_claim(1))
        assert board.sleep()
        refuse(keeper, row, times=3)
        assert os.eventfd_read(board.wake) == 1
        with pytest.raises(BlockingIOError):
            os.eventfd_read(board.wake)

    def test_no_sleep_while_records_are_there(self, board: Board) -> None:
        row = open_row(board)
        keeper = Keeper(board, board.section_claim(1))
        refuse(keeper, row)
        assert not board.sleep()
        refuse(keeper, row)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(board.wake)
        assert len(board.take_records()) == 2
        assert board.sleep()


class TestSlots:
    def test_in_use(self, board: Board) -> None:
        row = open_row(board)
        accounts = [Accounts(board, board.section_claim(1)) for _ in range(2)]
        taken = [each.admit(program(row), HERE, 4000)[1] for each in (*accounts, accounts[0])]
        assert len({*taken}) == 3
        assert {slot.slot for slot in board.slots_in_use()} == {*taken}
        assert {slot.slot for slot in board.slots_in_use(1)} == {taken[1]}
        first = board.slots_in_use(1)[0]
        assert (first.state, first.section, first.pid, first.row) == (SlotState.TAKEN, 1, 0, row)
        assert (first.address, first.port) == ("127.0.0.1", 4000)
        assert board.slot_row(taken[1]) == row
        assert board.slot_of_pid(4_000_000) == -1

    def test_full(self, board: Board) -> None:
        row = open_row(board)
        accounts = Accounts(board, 0)
        slots = [accounts.admit(program(row), HERE)[1] for _ in range(SLOTS)]
        assert sorted(slots) == [*range(SLOTS)]
        assert accounts.admit(program(row), HERE) == (Verdict.SLOTS_FULL, -1)
        assert board.live == board.row_live(row) == SLOTS
        accounts.drop(slots[5])
        assert accounts.admit(program(row), HERE) == (Verdict.ADMIT, slots[5])

    def test_adopted_without_a_server_is_freed(self, board: Board) -> None:
        row = open_row(board)
        sections = [board.section_claim(1), board.section_claim(2)]
        for section in sections:
            Accounts(board, section).admit(program(row), HERE)
        assert board.adopt(sections[1], sections[0]) == []
        assert board.row_live(row) == 2
        assert not board.consistent()
        assert board.close_gate({sections[1]})
        board.recount()
        board.open_gate()
        assert board.row_live(row) == board.live == 1
        assert board.consistent()


class TestStatus:
    def test_round_trip(self, board: Board) -> None:
        said = {
            "supervisor": 7, "descriptors": 65, "ready": True, "reload_ok": False, "reload_time": 2**33, "generation": 9
        }  # fmt: skip
        board.set_status(**said)  # type: ignore[arg-type]
        assert board.status() == said

    def test_tables(self) -> None:
        assert list(LATENCY_BOUNDS) == sorted(LATENCY_BOUNDS)
        assert list(SESSION_BOUNDS) == sorted(SESSION_BOUNDS)
        assert len({*ERRNO_NAMES}) == len(ERRNO_NAMES) == 16

    def test_counters_begin_at_zero(self, board: Board) -> None:
        counters = board.counters(board.row_claim())
        assert [len(each) for each in counters.latency] == [len(LATENCY_BOUNDS) + 1] * len(Method)
        assert len(counters.session) == len(SESSION_BOUNDS) + 1
        assert len(counters.spawn_failures) == len(ERRNO_NAMES)
        assert not any(map(sum, (*counters.latency, counters.session, counters.rejected, counters.exits)))


class TestReader:
    def test_sees_what_the_owner_writes(self, board: Board) -> None:
        descriptor = board.reader()
        try:
            seen = Board.open(descriptor, False)
            row = open_row(board)
            Accounts(board, 0).admit(program(row), HERE)
            assert (seen.rows, seen.live, seen.row_live(row)) == (4, 1, 1)
            assert seen.slots_in_use() == board.slots_in_use()
        finally:
            os.close(descriptor)

    def test_cannot_be_mapped_for_writing(self, board: Board) -> None:
        descriptor = board.reader()
        with pytest.raises(PermissionError):
            Board.open(descriptor, True)
        os.close(descriptor)

    def test_cannot_write(self, board: Board) -> None:
        descriptor = board.reader()

        def write() -> None:
            faulthandler.disable()
            Board.open(descriptor, False).open_gate()

        assert reap(fork(write)) == -signal.SIGSEGV
        os.close(descriptor)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_cannot_be_opened_for_writing_by_others(self, board: Board) -> None:
        descriptor = board.reader()

        def write() -> None:
            os.setresuid(65534, 65534, 65534)
            with pytest.raises(PermissionError):
                os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)

        assert reap(fork(write)) == 0
        os.close(descriptor)

    def test_another_layout_is_refused(self) -> None:
        descriptor = os.memfd_create("other")
        os.ftruncate(descriptor, 1 << 20)
        with pytest.raises(ValueError, match="layout"):
            Board.open(descriptor, True)
        os.close(descriptor)

    def test_unmapped(self) -> None:
        board = Board.create(1, 1, 1)
        board.unmap()
        board.unmap()
        os.close(board.fd)
