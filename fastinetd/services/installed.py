"""Services on the Board: which row is whose, what limits and times stand there, and the Program of each.

Theory. A row belongs to a service, by its name (identity.py), and keeps its counts, its sources, its rate and its
running servers through every reload, whatever else changes. What becomes of a removed service's row is in
supervisor/removals.py; until it is freed the service may come back to it.

Rules of this file: only the supervisor writes limits and times. Times are looked at when the clock is set
(system/clock.py) and once a minute where a service has any, for the zone may change too; the core compares, so a
border is never late.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache

from fastinetd.core.board import Board
from fastinetd.core.layout import Method, Verdict
from fastinetd.core.program import Pool, Program, Ranges
from fastinetd.logs.standard_error import StandardErrors
from fastinetd.plan.model import Mode, Plan, PlannedService, PoolPlan
from fastinetd.plan.pool_plan import POOL_TIMES
from fastinetd.policy.access import AccessTable, AddressVerdict
from fastinetd.policy.times import window_at
from fastinetd.relay.relay import Builtin
from fastinetd.services.identity import continued_services
from fastinetd.stage.library import library_descriptor
from fastinetd.system.loop import Loop, Timer

_VERDICTS = {AddressVerdict.ALLOW: Verdict.ADMIT, AddressVerdict.DENY: Verdict.ADDRESS, AddressVerdict.ASK: Verdict.ASK}


@dataclass(slots=True)
class InstalledService:
    """A service with its row."""

    row: int
    planned: PlannedService
    program: Program


class InstalledServices:
    """The services of the present Plan, and the rows of removed ones that still have servers."""

    def __init__(self, board: Board, loop: Loop, errors: StandardErrors) -> None:
        self._board = board
        self._loop = loop
        self._errors = errors
        self._services: list[InstalledService] = []
        self._clock: Timer | None = None
        self.by_row: dict[int, InstalledService] = {}
        self.unserved: tuple[tuple[str, str], ...] = ()  # the Plan's

    def __iter__(self) -> Iterator[InstalledService]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)

    def of_mode(self, mode: Mode) -> list[InstalledService]:
        """The services of a mode, in the order of the Plan."""
        return [installed for installed in self._services if installed.planned.mode is mode]

    def program_of(self, row: int) -> Program | None:
        """The program of a row; None for a row without a service."""
        installed = self.by_row.get(row)
        return None if installed is None else installed.program

    def room_for(self, plan: Plan) -> bool:
        """Whether the Board has rows enough for the services the plan adds."""
        _, continuing = self._continued(plan)
        return len(self.by_row) + len(plan.services) - len(continuing) <= self._board.rows

    def install(self, plan: Plan) -> list[InstalledService]:
        """Make these the services; returns those removed, whose rows stay theirs until `free`. Raises OSError and
        MemoryError, with everything as it was."""
        with ExitStack() as undo:
            services, changed = self._prepared(plan, undo)
            undo.pop_all()
        return self._use(services, changed, plan)

    def put_back(self, services: list[InstalledService], plan: Plan) -> list[InstalledService]:
        """Make these the services again, which were that plan's; returns those removed, whose rows stay theirs until
        `free`."""
        return self._use(services, services, plan)

    def _use(
        self, services: list[InstalledService], changed: list[InstalledService], plan: Plan
    ) -> list[InstalledService]:
        before = self._services
        for installed in changed:
            self._board.row_limits(installed.row, installed.planned.service, installed.planned.rate)
        self._services = services
        self.unserved = plan.unserved
        self.by_row |= {installed.row: installed for installed in services}
        self.look_at_clock()
        for installed in self._services:
            self._board.row_enable(installed.row, True)
        kept = {installed.row for installed in self._services}
        return [installed for installed in before if installed.row not in kept]

    def _prepared(self, plan: Plan, undo: ExitStack) -> tuple[list[InstalledService], list[InstalledService]]:
        """The plan's services with their rows, and those among them that are new or changed."""
        candidates, continuing = self._continued(plan)
        services, changed = [], []
        for number, planned in enumerate(plan.services):
            old = candidates[continuing[number]] if number in continuing else None
            if old is None:
                row = self._board.row_claim()
                undo.callback(self._give_up, row)
            else:
                row = old.row
            if old is not None and old.planned == planned:
                installed = old
            else:
                installed = InstalledService(row, planned, self._program(row, planned))
                changed.append(installed)
            services.append(installed)
        return services, changed

    def _continued(self, plan: Plan) -> tuple[list[InstalledService], dict[int, int]]:
        """The services there are, with the removed ones whose rows are not freed yet, and which of them the plan's
        services continue, by position."""
        present = {installed.row for installed in self._services}
        leaving = [installed for row, installed in self.by_row.items() if row not in present]
        candidates = [*self._services, *leaving]
        return candidates, continued_services([installed.planned for installed in candidates], plan.services)

    def free(self, row: int) -> None:
        """A removed service's row may be another's."""
        del self.by_row[row]
        self._give_up(row)

    def _give_up(self, row: int) -> None:
        self._board.row_release(row)
        self._errors.close(row)

    def finish(self) -> None:
        """Log what workers have written and is not logged yet: the daemon leaves."""
        self._errors.close_all()

    def look_at_clock(self) -> None:
        """Write the window in which each service is open; again in a minute if any service has times."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        time.tzset()  # the machine's zone may be another by now
        now = time.time()
        for installed in self._services:
            windows = installed.planned.service.access_times
            opens, closes = window_at(windows, now, time.localtime)
            self._board.row_times(installed.row, int(opens), int(closes))
            if windows and self._clock is None:
                self._clock = self._loop.later(60.0, self.look_at_clock)

    def _program(self, row: int, planned: PlannedService) -> Program:
        name = planned.service.name
        pool = None
        if planned.pool is not None:
            errors = self._errors.descriptor_for(row, planned.id) if planned.pool.kind == "worker" else -1
            pool = _pool_of(planned.pool, errors)
        return Program(
            row,
            planned.exec_context,
            ranges=_ranges_of(planned.access),
            log_success=planned.log_success,
            log_failure=planned.log_failure,
            unix_socket=planned.service.protocol == "unix",
            datagrams=planned.service.socket_type == "dgram",
            builtin=Builtin[name.upper()] if planned.mode is Mode.BUILTIN else 0,
            pool=pool,
            poolless=planned.refused is not None,
        )


@lru_cache(maxsize=256)
def _ranges_of(table: AccessTable) -> Ranges | None:
    """The core's copy of an address table; equal tables share one."""
    if table.admits_everybody:
        return None
    return Ranges(*([(first, last, _VERDICTS[verdict]) for first, last, verdict in family]
                    for family in (table.v4, table.v6)))


def _pool_of(plan: PoolPlan, errors: int) -> Pool:
    """A pool in the core's numbers; `errors`: a worker's standard error."""
    nanoseconds = 10**9
    return Pool(
        kind=Method[plan.kind.upper()],
        least=plan.min_spare,
        most=plan.max_spare,
        ready_within=int(POOL_TIMES.ready_within * nanoseconds),
        spare_after=int(POOL_TIMES.spare_after * nanoseconds),
        count_every=int(POOL_TIMES.count_every * nanoseconds),
        workers=plan.max_workers,
        requests=plan.max_requests or 0,
        age=(plan.max_age or 0) * nanoseconds,
        rss=plan.max_rss or 0,
        runtime=(plan.max_runtime or 0) * nanoseconds,
        files=plan.files,
        library=library_descriptor() if plan.kind != "worker" else -1,
        point=plan.snapshot.encode(),
        errors=errors,
        guard=-1 if plan.guard is None else plan.guard,
    )
