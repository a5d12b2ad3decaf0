"""What the daemon logs about its pools: each text ends with what it means for the service or what to do."""

from __future__ import annotations

import errno

from fastinetd.core.records import JournalRecord
from fastinetd.logs.lines import Level, error_text
from fastinetd.pools.pool import PoolEvent
from fastinetd.pools.system_calls import name_of_call

BY_EXEC = "its connections are served by exec"
BY_EXEC_MEANWHILE = f"{BY_EXEC} until another one is ready"

UNHOLDABLE_REASONS = {
    1: "has threads before it can be held, and a fork would lose them",
    2: "has more files open when it is held than each of its forks could open again",
}
"""Why a program cannot be held, by enum stage_refusal of stage/stage.h."""

_START_REMEDIES = {
    errno.EMFILE: "allow the daemon more open files (ulimit -n, LimitNOFILE)",
    errno.EAGAIN: "allow the service's user, and the daemon, more processes (ulimit -u, TasksMax)",
    errno.ENOMEM: "allow the daemon more memory, or have fewer processes ready (min_spare)",
}
"""What helps when a process of a pool cannot be started or watched, by errno."""


def pool_message(record: JournalRecord, service_id: str) -> tuple[Level, str]:
    """Level and text of what is logged about a POOL record. Its `reason` is a PoolEvent."""
    level, text = _event_text(PoolEvent(record.reason), record.value)
    return level, f"service {service_id}: {text}"


def _event_text(event: PoolEvent, value: int) -> tuple[Level, str]:
    match event:
        case PoolEvent.NO_START:
            remedy = f"; if it stays so, {_START_REMEDIES[value]}" if value in _START_REMEDIES else ""
            return Level.ERROR, f"its pool cannot start a process: {error_text(value)}; {BY_EXEC_MEANWHILE}{remedy}"
        case PoolEvent.DIED_EARLY:
            how = f"by signal {-value}" if value < 0 else f"with status {value}"
            return Level.ERROR, (f"a process of its pool ended {how} before it was ready: the program cannot be held "
                                 f"or is no worker (one says why on standard error, which is told here); {BY_EXEC}; "
                                 "use spawn = exec for it, or see docs/pools.md and docs/workers.md")
        case PoolEvent.TOO_SLOW:
            return Level.ERROR, (f"a process of its pool was not ready after {value} seconds; {BY_EXEC}; with snapshot "
                                 "= first_io the program must come to use its connection, a worker must say that it "
                                 "is ready")
        case PoolEvent.UNHOLDABLE:
            why = UNHOLDABLE_REASONS.get(value, "cannot be held")
            return Level.ERROR, f"its program {why}; {BY_EXEC}; use spawn = exec or worker for it"
        case PoolEvent.HELD_EARLY:
            return Level.INFO, (f"its program is held at {name_of_call(value)}, before its first use of the "
                                "connection: a fork would not copy what it does there (docs/pools.md)")
        case PoolEvent.HELD_AT_ONCE:
            return Level.WARNING, (f"its program is held at {name_of_call(value)}, hardly begun: snapshot = first_io "
                                   "gains next to nothing over main, as a fork would not copy what it does there "
                                   "(docs/pools.md)")
        case PoolEvent.HELD_AT_MAIN:
            return Level.WARNING, ("snapshot = first_io cannot be had here: its program is held before main instead; "
                                   "it needs Linux 5.11 on x86-64, and memory that may be written and then executed "
                                   "(MemoryDenyWriteExecute=no in a unit)")
        case PoolEvent.UNINTELLIGIBLE:
            return Level.ERROR, f"a process of its pool said what is not understood and was ended; {BY_EXEC_MEANWHILE}"
        case PoolEvent.HUNG:
            return Level.ERROR, (f"a process of its pool left connections unanswered for {value} seconds "
                                 f"and was ended; {BY_EXEC_MEANWHILE}")
        case PoolEvent.OVERTIME:
            return Level.WARNING, f"its worker with pid {value} was ended after max_runtime"
