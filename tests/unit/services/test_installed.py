"""Services on the Board: rows kept across reloads, limits and times written, programs made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Config, OverRate, Place, Rate, Service
from fastinetd.config.settings import INTERNALS
from fastinetd.core.board import Board
from fastinetd.core.layout import Verdict
from fastinetd.core.program import Program
from fastinetd.logs.standard_error import StandardErrors
from fastinetd.plan.model import Mode, Plan, PlannedService
from fastinetd.plan.plan import make_plan
from fastinetd.plan.pool_plan import PoolTimes
from fastinetd.plan.surroundings import Surroundings
from fastinetd.relay.relay import Builtin
from fastinetd.services.installed import InstalledServices
from fastinetd.system.privileges import Privileges
from support.accounts import Accounts
from support.extension import extension

MACHINE = Surroundings(environ=(), root=True, uid=0, gid=0, nice=0, files=(1024, 4096), ids=None,
                       may=Privileges())
HERE = bytes([10, 0, 0, 1])


class Clockwork:
    """The loop's timers."""

    def __init__(self) -> None:
        self.pending: list[Any] = []

    def later(self, seconds: float, callback: Callable[[], None]) -> Any:
        kit = self

        class Alarm:
            def __init__(self) -> None:
                self.seconds, self.callback = seconds, callback

            def cancel(self) -> None:
                kit.pending.remove(self)

        self.pending.append(Alarm())
        return self.pending[-1]


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(4, 16, 2)
    yield made
    os.close(made.fd)


@pytest.fixture
def loop() -> Clockwork:
    return Clockwork()


@pytest.fixture
def rows(board: Board, loop: Clockwork) -> InstalledServices:
    return InstalledServices(board, loop, StandardErrors(loop, lambda text: None))  # type: ignore[arg-type]


def service(name: str, port: int, **values: Any) -> Service:
    return Service(name, name, Place("x.conf", 1), types=frozenset({"UNLISTED"}), port=port, server="/bin/true",
                   argv=("true",), **values)


def plan_of(*services: Service) -> Plan:
    report = Report()
    made = make_plan(Config("x.conf", services), MACHINE, report)
    assert report.errors == 0
    return made


A, B, C = (service(name, port) for name, port in (("a", 7001), ("b", 7002), ("c", 7003)))


def verdict(board: Board, rows: InstalledServices, name: str, address: bytes = HERE) -> Verdict:
    """What admission says now; a slot taken is given back."""
    (installed,) = (each for each in rows if each.planned.id == name)
    accounts = Accounts(board, 0)
    said, slot = accounts.admit(installed.program, address)
    if slot >= 0:
        accounts.drop(slot)
    return said


def test_a_service_keeps_its_row(board: Board, rows: InstalledServices) -> None:
    assert rows.install(plan_of(A, B)) == []
    before = {each.planned.id: each.row for each in rows}
    same = rows.by_row[before["a"]]
    assert rows.install(plan_of(C, replace(B, instances=1), A)) == []
    after = {each.planned.id: each.row for each in rows}
    assert after == before | {"c": after["c"]}
    assert len({*after.values()}) == 3
    assert rows.by_row[before["a"]] is same  # nothing of it has changed
    assert len(rows) == 3


def test_changed_limits_hold_for_what_runs(board: Board, rows: InstalledServices) -> None:
    rows.install(plan_of(A))
    (installed,) = rows
    slot = Accounts(board, 0).admit(installed.program, HERE)[1]
    rows.install(plan_of(replace(A, instances=1)))
    assert board.row_live(installed.row) == 1
    assert verdict(board, rows, "a") == Verdict.INSTANCES
    Accounts(board, 0).drop(slot)
    assert verdict(board, rows, "a") == Verdict.ADMIT


def test_removed(board: Board, rows: InstalledServices) -> None:
    rows.install(plan_of(A, B))
    (gone,) = rows.install(plan_of(B))
    assert gone.planned.id == "a"
    assert gone.row in rows.by_row  # until it is freed
    rows.free(gone.row)
    assert gone.row not in rows.by_row
    rows.install(plan_of(B, C))
    assert {each.row for each in rows} == {0, 1}


def test_room(rows: InstalledServices) -> None:
    four = [service(f"s{number}", 7100 + number) for number in range(4)]
    assert rows.room_for(plan_of(*four))
    rows.install(plan_of(*four))
    assert rows.room_for(plan_of(*reversed(four)))
    assert not rows.room_for(plan_of(*four, A))
    assert not rows.room_for(plan_of(A))  # the removed ones keep theirs for a while


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"instances": 0}, Verdict.INSTANCES), ({"per_source": 0}, Verdict.PER_SOURCE), ({}, Verdict.ADMIT),
        ({"only_from": ("10.0.0.0",)}, Verdict.ADMIT), ({"only_from": ("10.1.0.0",)}, Verdict.ADDRESS),
        ({"no_access": (".example.net",)}, Verdict.ASK), ({"only_from": ()}, Verdict.ADDRESS),
    ],
)  # fmt: skip
def test_limits_and_addresses(board: Board, rows: InstalledServices, values: dict[str, Any], wanted: Verdict) -> None:
    rows.install(plan_of(replace(A, **values)))
    assert verdict(board, rows, "a") == wanted


@pytest.mark.parametrize("over", OverRate)
def test_rate(board: Board, rows: InstalledServices, over: OverRate) -> None:
    rows.install(plan_of(replace(A, rate=Rate(2, 3600.0), over_rate=over)))
    assert [verdict(board, rows, "a") for _ in range(3)] == [Verdict.ADMIT, Verdict.ADMIT, Verdict.RATE]


class TestTimes:
    def now(self) -> int:
        local = time.localtime()
        return local.tm_hour * 60 + local.tm_min

    def window(self, ahead: int) -> tuple[tuple[int, int], ...]:
        """Some minutes, so many ahead of now."""
        now = self.now()
        return (((now + ahead - 5) % 1440, (now + ahead + 5) % 1440),)

    def test_open_and_shut(self, board: Board, rows: InstalledServices) -> None:
        rows.install(plan_of(replace(A, access_times=self.window(0)), replace(B, access_times=self.window(720))))
        assert verdict(board, rows, "a") == Verdict.ADMIT
        assert verdict(board, rows, "b") == Verdict.TIME

    def test_looked_at_again_while_there_are_any(self, rows: InstalledServices, loop: Clockwork) -> None:
        rows.install(plan_of(A))
        assert loop.pending == []
        for _ in range(2):
            rows.install(plan_of(replace(A, access_times=self.window(0)), replace(B, access_times=self.window(1))))
            assert [alarm.seconds for alarm in loop.pending] == [60.0]
        rows.install(plan_of(A))
        assert loop.pending == []


def test_modes(rows: InstalledServices) -> None:
    echo = Service("echo", "echo", Place("x", 1), types=frozenset({"INTERNAL", "UNLISTED"}), port=7007)
    rows.install(plan_of(A, replace(B, wait=True), echo))
    assert {mode: [each.planned.id for each in rows.of_mode(mode)] for mode in Mode} == {
        Mode.NOWAIT: ["a"], Mode.WAIT: ["b"], Mode.BUILTIN: ["echo"],
    }  # fmt: skip


def test_builtins() -> None:
    """What a configuration may name is what the relay serves."""
    names = {name for kind in INTERNALS.values() for name in kind}
    assert {each.name.lower() for each in Builtin} == names


@pytest.mark.parametrize("values", [{"bind": ("127.0.0.1", "127.0.0.2")}, {"port": 7009}, {"wait": True}])
def test_what_counts_goes_on_under_another_address(
    board: Board, rows: InstalledServices, values: dict[str, Any]
) -> None:
    """Servers, those of a source, and the rate: a service is its name."""
    limits: dict[str, Any] = {"instances": 3, "per_source": 2, "rate": Rate(4, 3600.0), "over_rate": OverRate.REFUSE}
    before = replace(A, **limits)
    rows.install(plan_of(before))
    (installed,) = rows
    accounts = Accounts(board, 0)
    slots = [accounts.admit(installed.program, HERE)[1] for _ in range(2)]
    assert rows.install(plan_of(replace(before, **values))) == []
    assert verdict(board, rows, "a") == Verdict.PER_SOURCE
    assert verdict(board, rows, "a", bytes([10, 0, 0, 2])) == Verdict.ADMIT
    for slot in slots:
        accounts.drop(slot)
    assert [verdict(board, rows, "a") for _ in range(2)] == [Verdict.ADMIT, Verdict.RATE]


def test_a_removed_service_may_come_back(board: Board, rows: InstalledServices) -> None:
    """As long as its row is not freed it is its own."""
    rows.install(plan_of(A, B))
    (gone,) = rows.install(plan_of(B))
    board.row_enable(gone.row, False)
    assert rows.install(plan_of(replace(A, port=7005), B)) == []
    assert {each.planned.id: each.row for each in rows}["a"] == gone.row
    assert verdict(board, rows, "a") == Verdict.ADMIT


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_all_or_nothing(
    board: Board, rows: InstalledServices, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What a service needs cannot be had: the services, their limits and rows are those of before."""
    rows.install(plan_of(replace(A, instances=1), B))
    before, by_row = [*rows], dict(rows.by_row)
    make, made = rows._program, []

    def failing(row: int, planned: PlannedService) -> Program:
        made.append(planned.id)
        if planned.id == "d":
            raise error
        return make(row, planned)

    monkeypatch.setattr(rows, "_program", failing)
    with pytest.raises(type(error)):
        rows.install(plan_of(replace(A, instances=2), C, service("d", 7004)))
    assert made == ["a", "c", "d"]
    assert ([*rows], rows.by_row) == (before, by_row)
    slots = [Accounts(board, 0).admit(before[0].program, HERE)]
    assert verdict(board, rows, "a") == Verdict.INSTANCES
    Accounts(board, 0).drop(slots[0][1])
    monkeypatch.undo()
    assert [each.planned.id for each in rows.install(plan_of(B, C, service("d", 7004)))] == ["a"]
    assert {each.row for each in rows} == {1, 2, 3}


def test_pools_wait_as_long_as_the_plan_says(rows: InstalledServices, monkeypatch: pytest.MonkeyPatch) -> None:
    times = PoolTimes(ready_within=0.5, spare_after=2, count_every=3)
    monkeypatch.setattr("fastinetd.services.installed.POOL_TIMES", times)
    rows.install(plan_of(service("pooled", 7004, spawn="zygote", allow_shared_layout=True)))
    (pooled,) = rows
    assert extension("pool_rules").times(pooled.program) == (500_000_000, 2_000_000_000, 3_000_000_000)
