"""What pools decide by numbers alone, for tests that would need minutes or a machine of its own to see it happen."""

from libc.string cimport memset

from fastinetd.core.program cimport Program
from fastinetd.pools.parked_demand cimport (
    Demand, children_wanted, count_again, note_arrival, note_miss, note_parked,
)
from fastinetd.pools.pool cimport PoolLife, forget_failures, open_pool, pause_starts
from fastinetd.pools.workers cimport WorkerPool, pool_needs_worker
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


def times(Program program) -> tuple:
    """(ready_within, spare_after, count_every) of a service's pool, in nanoseconds."""
    return program.target.pool.ready_within, program.target.pool.spare_after, program.target.pool.count_every


def needs_another(u32 least, u32 most, u32 at_once, u32 count, u32 idle, u32 waiting, u64 waited, u64 short,
                  u32 freed) -> bool:
    """Whether a pool needs one more worker. A client waits for `waited` ns; `short` ns ago too few were idle."""
    cdef WorkerPool pool
    memset(&pool, 0, sizeof(pool))
    pool.life.least, pool.life.workers, pool.at_once, pool.count = least, most, at_once, count
    pool.idle_count, pool.queue.length, pool.freed, pool.short_since = idle, waiting, freed, NOW - short
    return pool_needs_worker(&pool, NOW - waited, NOW)


cdef class ParkedDemand:
    """How many children shall be parked, at least `least` and at most `most`; times are in nanoseconds."""

    cdef Demand demand
    cdef u32 least
    cdef u32 most

    def __init__(self, u32 least, u32 most):
        memset(&self.demand, 0, sizeof(self.demand))
        self.least, self.most = least, most

    @property
    def wanted(self) -> int:
        return children_wanted(&self.demand, self.least, self.most)

    def arrive(self, u64 now) -> None:
        """A connection comes."""
        note_arrival(&self.demand, now)

    def miss(self) -> None:
        """A connection finds no child."""
        note_miss(&self.demand)

    def park(self, u64 took) -> None:
        """A child is parked, so long after it was asked for."""
        note_parked(&self.demand, took)

    def count_again(self, u32 free, u64 now) -> int:
        """What is wanted is counted again; how many of the `free` children are let go."""
        return count_again(&self.demand, free, self.least, self.most, now)
