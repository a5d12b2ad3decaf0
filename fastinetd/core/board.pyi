"""The Board: shared memory of rows, slots, sources, counters and journals. See board.pxd for its theory."""

from collections.abc import Set
from enum import IntEnum
from typing import NamedTuple, TypedDict, type_check_only

from typing_extensions import disjoint_base

LATENCY_BOUNDS: tuple[float, ...]
SESSION_BOUNDS: tuple[float, ...]
ERRNO_NAMES: tuple[str, ...]

class Verdict(IntEnum):
    ADMIT = 0
    ADDRESS = 1
    NAME = 2
    TIME = 3
    LOAD = 4
    RATE = 5
    INSTANCES = 6
    PER_SOURCE = 7
    PROCESS_LIMIT = 8
    SOURCES_FULL = 9
    SLOTS_FULL = 10
    DISABLED = 11
    DOORMAN = 12
    LOOP = 13
    ASK = 15

class SlotState(IntEnum):
    FREE = 0
    TAKEN = 1
    RUNNING = 2
    ENDED = 3

class RecordKind(IntEnum):
    START = 1
    EXIT = 2
    FAIL = 3
    SPAWN_FAILED = 4
    ACCEPT_FAILED = 5
    DEACTIVATED = 6
    POOL = 7
    HELD_BACK = 8

class Method(IntEnum):
    EXEC = 0
    ZYGOTE = 1
    PREFORK = 2
    WORKER = 3

class Status(IntEnum):
    SUCCESS = 0
    FAILURE = 1
    SIGNAL = 2
    UNKNOWN = 3

class Field(IntEnum):
    SHOW_PID = 1
    SHOW_HOST = 2
    SHOW_USERID = 4
    SHOW_EXIT = 8
    SHOW_DURATION = 16
    SHOW_TRAFFIC = 32
    SHOW_ATTEMPT = 64

class RecordTuple(NamedTuple):
    when: float
    row: int
    kind: int
    reason: int
    pid: int
    value: int
    signalled: bool
    seconds: int
    address: str
    port: int
    fields: int

class SlotTuple(NamedTuple):
    slot: int
    state: int
    section: int
    pid: int
    row: int
    started: float
    address: str
    port: int

class CountersTuple(NamedTuple):
    accepted: int
    activations: int
    rejected: tuple[int, ...]
    spawn_failures: tuple[int, ...]
    latency: tuple[tuple[int, ...], ...]
    latency_sum: tuple[float, ...]
    session: tuple[int, ...]
    session_sum: float
    exits: tuple[int, ...]
    user_seconds: float
    system_seconds: float
    pool_hits: int
    pool_misses: int
    recycled: tuple[int, ...]
    pool: tuple[int, ...]
    rate_waits: int
    rate_wait_seconds: float

@type_check_only
class _Status(TypedDict):
    supervisor: int
    descriptors: int
    ready: bool
    reload_ok: bool
    reload_time: int
    generation: int

@disjoint_base
class Board:
    @staticmethod
    def size_for(rows: int, slots: int, sections: int, buckets: int) -> int: ...
    @staticmethod
    def create(rows: int, slots: int, sections: int) -> Board: ...
    @staticmethod
    def open(fd: int, writable: bool) -> Board: ...
    @property
    def fd(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def live(self) -> int: ...
    @property
    def wake(self) -> int: ...
    @wake.setter
    def wake(self, fd: int) -> None: ...
    def reader(self) -> int: ...
    def unmap(self) -> None: ...
    def sleep(self) -> bool: ...
    def set_process_limit(self, limit: int | None) -> None: ...
    def set_status(
        self, *, supervisor: int, descriptors: int, ready: bool, reload_ok: bool, reload_time: int, generation: int
    ) -> None: ...
    def status(self) -> _Status: ...
    def row_claim(self) -> int: ...
    def row_release(self, row: int) -> None: ...
    def row_limits(
        self,
        row: int,
        *,
        instances: int | None,
        per_source: int | None,
        over_rate: int,
        rate_count: int,
        rate_period: int,
        rate_pause: int,
        max_load: float,
    ) -> None: ...
    def row_times(self, row: int, open_from: int, open_until: int) -> None: ...
    def row_enable(self, row: int, enabled: bool) -> None: ...
    def row_live(self, row: int) -> int: ...
    def row_closed(self, row: int) -> int: ...
    def row_hears(self, row: int, endpoint: int = -1, number: int = 0) -> None: ...
    def row_deaf(self, row: int) -> tuple[int, int] | None: ...
    def row_open(self, row: int) -> None: ...
    def rate_wait(self, row: int) -> float: ...
    def row_holds(self, row: int) -> bool: ...
    def section_claim(self, owner: int) -> int: ...
    def section_own(self, section: int, owner: int) -> None: ...
    def section_release(self, section: int) -> None: ...
    def depth(self) -> int: ...
    def drain(self, most: int = 1024) -> list[RecordTuple]: ...
    def slots_in_use(self, section: int | None = None) -> list[SlotTuple]: ...
    def slot_row(self, slot: int) -> int: ...
    def slot_of_pid(self, pid: int) -> int: ...
    def handed(self, section: int) -> list[tuple[int, int]]: ...
    def set_pid(self, slot: int, pid: int) -> None: ...
    def adopt(self, section: int, heir: int) -> list[tuple[int, int, SlotState]]: ...
    def close_gate(self, dead: Set[int]) -> bool: ...
    def open_gate(self) -> None: ...
    def recount(self) -> None: ...
    def consistent(self) -> bool: ...
    def counters(self, row: int) -> CountersTuple: ...
    def held(self, row: int) -> dict[tuple[int, int], int]: ...
    def count_activation(self, section: int, row: int) -> None: ...

def record_time(record: RecordTuple) -> float: ...
