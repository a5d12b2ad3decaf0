"""The words of the Board's layout: enums of verdicts, states, records, methods and ends.

Written from layout.pxd: python -m fastinetd.manual.layout_stub > fastinetd/core/layout.pyi
"""

from collections.abc import Mapping
from enum import IntEnum

REFUSALS: Mapping[Verdict, str]
"""The word of each refusal in a FAIL record; its name in small letters is the reason in metrics."""

MOST_STARTS: int
"""The most starts of a rate: the Board has room for the times of so many."""

def require_room(enum: type[IntEnum], room: int) -> None: ...

class Field(IntEnum):
    SHOW_PID = 1
    SHOW_HOST = 2
    SHOW_USERID = 4
    SHOW_EXIT = 8
    SHOW_DURATION = 16
    SHOW_TRAFFIC = 32
    SHOW_ATTEMPT = 64

class Method(IntEnum):
    EXEC = 0
    ZYGOTE = 1
    PREFORK = 2
    WORKER = 3

class OverRateRule(IntEnum):
    OVER_WAIT = 0
    OVER_REFUSE = 1
    OVER_CLOSE = 2

class RecordKind(IntEnum):
    START = 1
    EXIT = 2
    FAIL = 3
    SPAWN_FAILED = 4
    ACCEPT_FAILED = 5
    DEACTIVATED = 6
    POOL = 7
    RATE_WAIT = 8

class SlotState(IntEnum):
    FREE = 0
    TAKEN = 1
    RUNNING = 2
    ENDED = 3

class Status(IntEnum):
    SUCCESS = 0
    FAILURE = 1
    SIGNAL = 2
    UNKNOWN = 3

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
