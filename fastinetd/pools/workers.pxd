"""Workers: processes that live on and take one connection after another."""

from fastinetd.core.client cimport Client
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport Servers
from fastinetd.pools.pool cimport TAKEN_WITHIN, PoolLife, Recycling, time_since
from fastinetd.pools.waiting cimport Queue, WaitingClients
from fastinetd.pools.worker cimport Worker
from fastinetd.system.linux cimport i32, now_monotonic, u32, u64

cdef struct WorkerPool:
    PoolLife life
    u32 first_listener
    u32 listeners
    bint paused  # its listeners are, until there is room in the queue
    u32 idle  # the one that was idle last; NOBODY: none
    u32 idle_count
    u32 count  # all but those that leave
    u32 starting
    Queue queue  # clients that wait
    u32 surplus  # seconds in a row with more idle ones than wanted
    u64 counted_at  # when that was last seen
    u64 short_since  # when there began to be fewer idle ones than wanted, or this was looked at last
    u32 freed  # connections that workers have finished with since
    u32 at_once  # so many workers keep this acceptor's part of the processors busy
    u64 begun_at  # when the last worker was started
    bint proven  # a worker was ready once, since the program's files were as they are

cdef enum:
    SHORT_FOR = 5_000_000  # ns to be without enough idle workers, or to wait for one, until another is started
    FREED_EVERY = 500_000  # ns: where workers become free more often, none need be idle


cdef inline void count_freed_anew(WorkerPool *pool, u64 now) noexcept nogil:
    """Count from now on how often workers of the pool become free."""
    pool.short_since, pool.freed = now, 0


cdef inline bint no_worker_expected(WorkerPool *pool) noexcept nogil:
    """Whether no worker can be expected: none is ready, and none will be soon, as others have been."""
    return pool.count == pool.starting and not (
        pool.proven and pool.starting and time_since(pool.begun_at, now_monotonic()) < TAKEN_WITHIN)


cdef inline bint pool_needs_worker(WorkerPool *pool, u64 oldest, u64 now) noexcept nogil:
    """Whether a pool needs another worker; `oldest` is when the first of those that wait has come.

    It does where some are missing; where clients wait and a processor may be free; where a client has waited for long;
    and where the next one would: for so long too few have been idle, and those that are busy are so with long
    connections. Short ones are served best by few workers, whose memory the processors have at hand.
    """
    cdef u64 short = time_since(pool.short_since, now)
    if pool.count >= pool.life.workers:
        return False
    if pool.count < pool.life.least:
        return True
    if pool.count == 0 or pool.idle_count + pool.starting >= max(pool.life.least, pool.queue.length + 1):
        return False
    if pool.queue.length and (pool.count < pool.at_once or time_since(oldest, now) >= SHORT_FOR):
        return True
    return short >= SHORT_FOR and pool.freed < short // FREED_EVERY


cdef inline bint worker_is_superfluous(WorkerPool *pool, Worker *w, u64 now) noexcept nogil:
    """Whether an idle worker was wanted only for a while: others have served alone ever since."""
    return (pool.count > pool.at_once and pool.idle_count > pool.life.least
            and time_since(w.idle_since, now) >= pool.life.target.pool.spare_after)


cdef class Workers:
    cdef Servers servers
    cdef Reception reception
    cdef Ledger *ledger  # the reception's
    cdef WorkerPool *pools
    cdef u32 pool_count
    cdef Worker *workers
    cdef u32 worker_count
    cdef u32 processors
    cdef WaitingClients waiting
    cdef int nothing
    cdef u64 due_at

    cdef void add_pool(self, u32 index, Target *target, u32 acceptors, u32 listener) noexcept nogil
    cdef bint hand(self, u32 index, const Client *client, u32 slot) noexcept nogil
    cdef void let_wait(self, WorkerPool *pool, const Client *client, u32 slot) noexcept nogil
    cdef void serve_waiting(self, u32 index) noexcept nogil
    cdef bint hand_to_worker(self, u32 number, const Client *client, u32 slot) noexcept nogil
    cdef bint hand_to_idle(self, WorkerPool *pool, const Client *client, u32 slot) noexcept nogil
    cdef void handle_event(self, u32 kind, u32 index) noexcept nogil
    cdef void read_word_of(self, u32 number) noexcept nogil
    cdef void employ(self, u32 number) noexcept nogil
    cdef void dismiss(self, u32 number, Recycling why, bint at_once) noexcept nogil
    cdef void dismiss_all(self, u32 index, Recycling why) noexcept nogil
    cdef void worker_ended(self, u32 number) noexcept nogil
    cdef void give_back(self, Worker *w, int fd, int code, int status) noexcept nogil
    cdef void start(self, u32 index, u64 now) noexcept nogil
    cdef void take_from_idle(self, u32 number) noexcept nogil
    cdef bint wants_more(self, WorkerPool *pool, u64 now) noexcept nogil
    cdef void wake_at(self, u64 moment) noexcept nogil
    cdef void tend(self, u32 index, u64 now) noexcept nogil
    cdef void check_worker(self, u32 number, u64 now) noexcept nogil
    cdef void check_busy(self, u32 number, u64 now) noexcept nogil
    cdef bint check_received(self, u32 number, u64 now) noexcept nogil
    cdef void abandon(self) noexcept nogil
    cdef bint has_worker(self, i32 pid) noexcept nogil
    cdef bint dismiss_free(self) noexcept nogil
    cdef void do_what_is_due(self) noexcept nogil
