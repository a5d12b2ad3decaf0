"""The counters of a section, and their sums."""

from typing import NamedTuple

LATENCY_BOUNDS: tuple[float, ...]
SESSION_BOUNDS: tuple[float, ...]
ERRNO_NAMES: tuple[str, ...]

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
