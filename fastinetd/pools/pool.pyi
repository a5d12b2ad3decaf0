"""Pools: what zygotes and workers have in common, and the words for what becomes of them."""

from enum import IntEnum

class PoolState(IntEnum):
    HOLDING = 0
    STARTING = 1
    IDLE = 2
    BUSY = 3

class Recycling(IntEnum):
    REQUESTS = 0
    AGE = 1
    RSS = 2
    RUNTIME = 3
    SPARE = 4
    CHANGED = 5
    DIED = 6
    MISTRUSTED = 7
    CPU = 8

class HeldAt(IntEnum):
    MAIN = 0
    FIRST_USE = 1
    EARLY = 2
    AT_START = 3
    UNSUPPORTED = 4

class PoolEvent(IntEnum):
    NO_START = 1
    DIED_EARLY = 2
    TOO_SLOW = 3
    UNHOLDABLE = 4
    HELD_EARLY = 5
    HELD_AT_MAIN = 6
    UNINTELLIGIBLE = 7
    HUNG = 8
    OVERTIME = 9
    HELD_AT_ONCE = 10

def acceptors_of(kind: int, count: int) -> int: ...
