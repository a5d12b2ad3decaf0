"""The supervisor's Keeper with real programs: starts, failures, ends, adopted servers."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastinetd.core.board import Board
from fastinetd.core.counters import ERRNO_NAMES
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Field, Method, RecordKind, SlotState, Status, Verdict
from fastinetd.core.program import Program, Ranges
from fastinetd.core.records import UsedSlot
from fastinetd.core.spawn import SpawnStep, clone_is_allowed, spawn_program
from support.accounts import Accounts
from support.core import await_end, end, fork, has_children, open_row, program, reap

HERE = bytes([127, 0, 0, 1])
UNPRIVILEGED = (65534, 65534) if os.geteuid() == 0 else (os.getuid(), os.getgid())
"""User and group of a process that has none of root's privileges."""
ALL = sum(field for field in Field)
BOTH = pytest.mark.parametrize("posix_spawn", [False, True], ids=["clone", "posix_spawn"])


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(2, 16, 3)
    yield made
    assert not has_children()
    os.close(made.fd)


@pytest.fixture
def keeper(board: Board) -> Keeper:
    return Keeper(board, board.section_claim(os.getpid()))


@pytest.fixture
def null() -> Iterator[int]:
    opened = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    yield opened
    os.close(opened)


def in_slot(board: Board, slot: int) -> UsedSlot:
    (found,) = (each for each in board.slots_in_use() if each.slot == slot)
    return found


def started(board: Board, keeper: Keeper, what: Program, null: int) -> UsedSlot:
    verdict, slot, pid = keeper.start(what, null, HERE, 4000)
    assert verdict == Verdict.ADMIT
    assert pid > 0
    found = in_slot(board, slot)
    assert (found.pid, found.state) == (pid, SlotState.RUNNING)
    return found


def test_whose_name_decides_is_served_once_the_doorman_has_admitted_it(board: Board, keeper: Keeper, null: int) -> None:
    """Whose address is refused is not served for the sake of its name."""
    ranges = [(0, 9, Verdict.ADDRESS), (10, 2**32 - 1, Verdict.ASK)]
    what = program(open_row(board), "/bin/true", ranges=Ranges(ranges, []))
    assert keeper.start(what, null, HERE, 4000) == (Verdict.ASK, -1, 0)
    assert keeper.start(what, null, bytes([0, 0, 0, 9]), 4000, vouched=True) == (Verdict.ADDRESS, -1, 0)
    verdict, slot, pid = keeper.start(what, null, HERE, 4000, vouched=True)
    assert verdict == Verdict.ADMIT
    await_end(pid)
    assert keeper.end(slot)


@BOTH
def test_from_start_to_end(board: Board, keeper: Keeper, null: int, posix_spawn: bool) -> None:
    row = open_row(board)
    what = program(row, "/bin/cat", posix_spawn=posix_spawn, log_success=ALL, log_failure=ALL)
    reader, writer = socket.socketpair()
    slot = started(board, keeper, what, reader.fileno())
    assert board.slot_of_pid(slot.pid) == slot.slot
    assert not keeper.end(slot.slot)
    assert (board.live, board.row_live(row)) == (1, 1)
    writer.shutdown(socket.SHUT_WR)
    end(keeper, slot)
    assert (board.live, board.row_live(row), board.slots_in_use()) == (0, 0, [])
    assert board.slot_of_pid(slot.pid) == -1
    begin, finish = board.take_records()
    assert (begin.kind, begin.pid, begin.address, begin.port) == (RecordKind.START, slot.pid, "127.0.0.1", 4000)
    assert (finish.kind, finish.pid, finish.value, finish.signalled) == (RecordKind.EXIT, slot.pid, 0, False)
    counters = board.counters(row)
    assert (counters.accepted, sum(counters.latency[Method.EXEC]), sum(counters.session)) == (1, 1, 1)
    assert counters.latency_ns[Method.EXEC] > 0
    assert counters.exits[Status.SUCCESS] == 1
    reader.close()
    writer.close()


@BOTH
def test_exit_status(board: Board, keeper: Keeper, null: int, posix_spawn: bool) -> None:
    row = open_row(board)
    what = program(row, "/bin/sh", "-c", "exit 3", posix_spawn=posix_spawn, log_success=int(Field.SHOW_EXIT))
    end(keeper, started(board, keeper, what, null))
    assert board.counters(row).exits[Status.FAILURE] == 1
    finish = board.take_records()[-1]
    assert (finish.value, finish.signalled) == (3, False)


@BOTH
def test_ended_by_a_signal(board: Board, keeper: Keeper, null: int, posix_spawn: bool) -> None:
    row = open_row(board)
    what = program(row, "/bin/sleep", "1000", posix_spawn=posix_spawn, log_success=int(Field.SHOW_EXIT))
    slot = started(board, keeper, what, null)
    os.kill(slot.pid, signal.SIGTERM)
    end(keeper, slot)
    assert board.counters(row).exits[Status.SIGNAL] == 1
    finish = board.take_records()[-1]
    assert (finish.value, finish.signalled) == (signal.SIGTERM, True)


def test_processor_time_is_counted(board: Board, keeper: Keeper, null: int) -> None:
    row = open_row(board)
    busy = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    end(keeper, started(board, keeper, program(row, "/bin/sh", "-c", busy), null))
    counters = board.counters(row)
    assert counters.user_us + counters.system_us > 1000


class TestFailures:
    """A start that fails gives back everything and says why."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        for name, text, mode in (
            ("plain", "#!/bin/sh\n", 0o644), ("garbage", "\x7fnot a program", 0o755), ("empty", "", 0o755),
            ("orphan", "#!/no/such/interpreter\n", 0o755), ("loop1", "", 0o755),
        ):  # fmt: skip
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(mode)
        (tmp_path / "round").symlink_to("round")
        return tmp_path

    @BOTH
    @pytest.mark.parametrize(
        ("name", "number"),
        [
            ("nothing", errno.ENOENT), ("orphan", errno.ENOENT), ("plain", errno.EACCES), (".", errno.EACCES),
            ("garbage", errno.ENOEXEC), ("empty", errno.ENOEXEC), ("plain/x", errno.ENOTDIR), ("round", errno.ELOOP),
            ("n" * 300, errno.ENAMETOOLONG),
        ],
    )  # fmt: skip
    def test_errno(
        self, board: Board, keeper: Keeper, null: int, files: Path, name: str, number: int, posix_spawn: bool
    ) -> None:
        row = open_row(board, per_source=1)
        what = program(row, str(files / name), posix_spawn=posix_spawn, log_success=ALL)
        for _ in range(3):  # the limit of one for each source shows that it is given back
            assert keeper.start(what, null, HERE, 4000) == (Verdict.ADMIT, -1, -number)
        assert (board.live, board.row_live(row), board.slots_in_use()) == (0, 0, [])
        counters = board.counters(row)
        assert counters.spawn_failures[ERRNO_NAMES.index(errno.errorcode[number])] == 3
        assert sum(counters.spawn_failures) == 3
        assert sum(counters.latency[Method.EXEC]) == sum(counters.session) == 0
        records = board.take_records()
        step = SpawnStep.STEP_UNKNOWN if posix_spawn else SpawnStep.STEP_EXECVE
        assert [(record.kind, record.reason, record.value, record.address) for record in records] == [
            (RecordKind.SPAWN_FAILED, step, number, "127.0.0.1")
        ] * 3
        assert not has_children()

    def test_too_many_arguments(self, board: Board, keeper: Keeper, null: int) -> None:
        row = open_row(board)
        what = program(row, "/bin/true", "x" * (1 << 18))
        assert keeper.start(what, null)[2] == -errno.E2BIG
        assert board.counters(row).spawn_failures[ERRNO_NAMES.index("E2BIG")] == 1

    @pytest.mark.parametrize(
        ("asked", "step", "number"),
        [
            ({"groups": []}, SpawnStep.STEP_SETGROUPS, errno.EPERM),
            ({"ids": (UNPRIVILEGED[0], 0)}, SpawnStep.STEP_SETRESGID, errno.EPERM),
            ({"ids": (0, UNPRIVILEGED[1])}, SpawnStep.STEP_SETRESUID, errno.EPERM),
            ({"nice": -20}, SpawnStep.STEP_SETPRIORITY, errno.EACCES),
            ({"limits": [(resource.RLIMIT_CORE, 1, 1)]}, SpawnStep.STEP_PRLIMIT64, errno.EPERM),
        ],
    )
    def test_what_only_root_may(
        self, board: Board, keeper: Keeper, null: int, asked: dict[str, object], step: SpawnStep, number: int
    ) -> None:
        row = open_row(board)

        def start() -> None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if os.geteuid() == 0:
                uid, gid = UNPRIVILEGED
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
            assert keeper.start(program(row, "/bin/true", **asked), null) == (Verdict.ADMIT, -1, -number)

        assert reap(fork(start)) == 0
        assert board.counters(row).spawn_failures[ERRNO_NAMES.index(errno.errorcode[number])] == 1
        assert [(record.reason, record.value) for record in board.take_records()] == [(step, number)]

    def test_a_descriptor_that_is_not_open(self, board: Board, keeper: Keeper) -> None:
        what = program(open_row(board))
        assert keeper.start(what, 63) == (Verdict.ADMIT, -1, -errno.EBADF)
        assert board.live == 0


class TestRefusals:
    def test_each_limit(self, board: Board, keeper: Keeper, null: int) -> None:
        row = open_row(board, instances=1)
        slot = started(board, keeper, program(row, "/bin/sleep", "1000"), null)
        assert keeper.start(program(row), null, HERE) == (Verdict.INSTANCES, -1, 0)
        assert board.counters(row).accepted == 1
        os.kill(slot.pid, signal.SIGKILL)
        end(keeper, slot)

    def test_counted_when_told(self, board: Board, keeper: Keeper) -> None:
        row = open_row(board)
        keeper.refuse(program(row, log_failure=ALL), Verdict.NAME, HERE, 9)
        assert board.counters(row).rejected[Verdict.NAME] == 1
        assert [(r.reason, r.address, r.port) for r in board.take_records()] == [(Verdict.NAME, "127.0.0.1", 9)]


def test_what_processor_time_was_spent_on(board: Board, keeper: Keeper, null: int) -> None:
    row = open_row(board)
    counts = program(row, "/bin/sh", "-c", "i=0; while [ $i -lt 99999 ]; do i=$((i+1)); done")
    end(keeper, started(board, keeper, counts, null))
    counters = board.counters(row)
    assert counters.user_us > counters.system_us


class TestAdopted:
    def test_recognised_and_ended(self, board: Board, keeper: Keeper, null: int) -> None:
        """Servers of a dead process, which its subreaper has inherited."""
        row, section = open_row(board), board.section_claim(1)
        own = Keeper(board, section)
        what = program(row, "/bin/sleep", "1000", log_success=ALL)
        slot = started(board, own, what, null)  # as if by another process: only its section is
        board.take_records()
        assert board.adopt(section, 0) == [(slot.slot, slot.pid, SlotState.RUNNING)]
        assert in_slot(board, slot.slot).section == 0
        keeper.record_start(what, slot.slot)
        assert not keeper.end(slot.slot)
        os.kill(slot.pid, signal.SIGKILL)
        end(keeper, slot)
        assert [record.kind for record in board.take_records()] == [RecordKind.START, RecordKind.EXIT]
        assert board.live == 0

    def test_gone_without_a_trace(self, board: Board, keeper: Keeper, null: int) -> None:
        """Somebody else has reaped it: it is counted out, how it ended is unknown."""
        row = open_row(board)
        slot = started(board, keeper, program(row), null)
        await_end(slot.pid)
        os.waitpid(slot.pid, 0)
        assert keeper.end(slot.slot)
        assert board.counters(row).exits[Status.UNKNOWN] == 1
        assert (board.live, board.slots_in_use()) == (0, [])

    def test_of_a_process_killed_in_the_middle(self, board: Board, keeper: Keeper, null: int) -> None:
        row, section = open_row(board), board.section_claim(1)

        def start_and_die() -> None:
            Accounts(board, section).admit(program(row), HERE)  # a slot without a server
            Keeper(board, section).start(program(row, "/bin/sleep", "1000"), null)
            os.kill(os.getpid(), signal.SIGKILL)

        assert reap(fork(start_and_die)) == -signal.SIGKILL
        assert board.row_live(row) == 2
        assert board.close_gate({section})
        ((slot, pid, state),) = board.adopt(section, 0)
        board.recount()
        board.open_gate()
        assert (state, board.row_live(row), board.live) == (SlotState.RUNNING, 1, 1)
        os.kill(pid, signal.SIGKILL)
        assert keeper.end(slot)  # not a child of this process, so there is nothing to wait for
        assert board.live == 0


@BOTH
def test_spawn(null: int, posix_spawn: bool) -> None:
    pid = spawn_program(program(0, "/bin/sh", "-c", "exit 4", posix_spawn=posix_spawn), null)
    assert reap(pid) == 4
    with pytest.raises(FileNotFoundError):
        spawn_program(program(0, "/no/such/program", posix_spawn=posix_spawn), null)
    assert not has_children()


def test_probe() -> None:
    assert clone_is_allowed()
    assert not has_children()


def test_descriptors_are_borrowed(board: Board, keeper: Keeper, null: int) -> None:
    before = {*os.listdir("/proc/self/fd")}
    row = open_row(board)
    for path in ("/bin/true", "/no/such/program"):
        slot = keeper.start(program(row, path), null)[1]
        if slot >= 0:
            end(keeper, in_slot(board, slot))
    assert {*os.listdir("/proc/self/fd")} == before
    os.fstat(null)
