"""What pools decide by numbers alone, for tests that would need minutes or a machine of its own to see it happen."""

from libc.string cimport memset

from fastinetd.core.program cimport Program
from fastinetd.pools.pool cimport PoolLife, forget_failures, open_pool, pause_starts
from fastinetd.pools.workers cimport WorkerPool, too_few
from fastinetd.system.linux cimport u32, u64

cdef enum:
    NOW = 1_000_000_000


def pauses(int count) -> list:
    """The pauses in seconds after so many failures in a row."""
    cdef PoolLife life
    cdef list found = []
    forget_failures(&life)
    for _ in range(count):
        pause_starts(&life, 0)
        found.append(life.start_at / 1e9)
    return found


def shares(Program program, u32 acceptors) -> tuple:
    """(least, most, workers) of one of so many acceptors."""
    cdef PoolLife life
    open_pool(&life, &program.target, acceptors)
    return life.least, life.most, life.workers


def needs_another(u32 least, u32 most, u32 at_once, u32 count, u32 idle, u32 waiting, u64 waited, u64 short,
                  u32 freed) -> bool:
    """Whether a pool needs one more worker. A client waits for `waited` ns; `short` ns ago too few were idle."""
    cdef WorkerPool pool
    memset(&pool, 0, sizeof(pool))
    pool.life.least, pool.life.workers, pool.at_once, pool.count = least, most, at_once, count
    pool.idle_count, pool.queue.length, pool.freed, pool.short_since = idle, waiting, freed, NOW - short
    return too_few(&pool, NOW - waited, NOW)
