"""The compiled core as tests use it: rows, programs, processes that share a Board."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any

from fastinetd.config.model import OverRate, Place, Rate, Service
from fastinetd.core.board import Board
from fastinetd.core.exec_context import ExecContext
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Method, OverRateRule
from fastinetd.core.program import Pool, Program
from fastinetd.core.records import UsedSlot
from fastinetd.plan.pool_plan import POOL_TIMES
from fastinetd.system.loop import Loop, Timer
from support.proc import PATIENCE

HOUR = 3600 * 10**9


def set_limits(
    board: Board, row: int, *, instances: int | None = None, per_source: int | None = None, over_rate: int = 0,
    rate_count: int = 0, rate_period: int = 0, rate_pause: int = 0, max_load: float = 0.0,
) -> None:
    """Write a row's limits: those that are named, and no others. `over_rate`: an OverRateRule."""
    service = Service(
        "x", "x", Place("x.conf", 1), instances=instances, per_source=per_source, max_load=max_load,
        over_rate=OverRate[OverRateRule(over_rate).name.removeprefix("OVER_")], rate=Rate(0, pause=rate_pause),
    )
    board.row_limits(row, service, (rate_count, rate_period))


def open_row(board: Board, *, enabled: bool = True, **limits: Any) -> int:
    """A row that is open at all times."""
    row = board.row_claim()
    set_limits(board, row, **limits)
    board.row_times(row, 0, 2**62)
    board.row_enable(row, enabled)
    return row


def program(row: int, *argv: str, **values: Any) -> Program:
    """A program without an environment of its own; `argv[0]` is its path."""
    words = [word.encode() for word in argv or ("/bin/true",)]
    standard: dict[str, Any] = {"path": words[0], "argv": words}
    of_context = {field.name for field in fields(ExecContext)} & values.keys()
    context = ExecContext(**(standard | {name: values.pop(name) for name in of_context}))
    return Program(row, context, **values)


def pool_of(kind: Method, **values: Any) -> Pool:
    """A pool that waits as long as every service's, but for the times among `values`, in nanoseconds."""
    times: dict[str, Any] = {name: int(seconds * 10**9) for name, seconds in POOL_TIMES._asdict().items()}
    return Pool(kind, **(times | values))


def await_end(pid: int) -> None:
    """Wait until a child has ended; leaves it to be reaped."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(PATIENCE * 1000), f"process {pid} goes on"
    finally:
        os.close(descriptor)


def end(keeper: Keeper, slot: UsedSlot) -> None:
    """Wait until a server has ended, and have the keeper record that."""
    await_end(slot.pid)
    assert keeper.end(slot.slot)


def has_children() -> bool:
    """Whether this process has children, running or not yet reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def fork(main: Callable[[], None]) -> int:
    """Run `main` in a child, which says on standard error what it raises and ends with status 1."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    with suppress(BaseException):
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            main()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
    os._exit(status)


def reap(pid: int) -> int:
    """Wait for a child; its exit status, or minus the signal that ended it."""
    await_end(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def until(loop: Loop, condition: Callable[[], object], what: object) -> None:
    """Let a loop run until something holds. It is looked at after each callback, so that no state is too short to be
    seen, and each millisecond, for what happens elsewhere. `what` is shown if it never does."""
    guard = loop.later(PATIENCE, loop.stop)
    call = loop._run_callback
    tick: Timer

    def looked_after(callback: Callable[..., None], *arguments: object) -> None:
        call(callback, *arguments)
        if condition():
            loop.stop()

    def again() -> None:
        nonlocal tick
        tick = loop.later(0.001, again)

    tick = loop.later(0.001, again)
    loop._run_callback = looked_after  # type: ignore[method-assign]
    try:
        if not condition():
            loop.run()
    finally:
        loop._run_callback = call  # type: ignore[method-assign]
        guard.cancel()
        tick.cancel()
    assert condition(), what


def close_loop(loop: Loop) -> None:
    """Close the descriptors of a loop; the daemon's own loop ends with its process."""
    signal.set_wakeup_fd(-1)
    loop._epoll.close()
    os.close(loop._reader)
    os.close(loop._writer)


@contextmanager
def running(main: Callable[[], None]) -> Iterator[int]:
    """A child that runs `main` while the test goes on; it is killed if it has not ended by the end of the block."""
    pid = fork(main)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
