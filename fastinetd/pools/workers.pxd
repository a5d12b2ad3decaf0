"""Workers: processes that live on and take one connection after another."""

from fastinetd.core.admit cimport Client
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target
from fastinetd.core.reception cimport Listener, Reception
from fastinetd.core.servers cimport Servers
from fastinetd.pools.pool cimport TAKEN_WITHIN, PoolLife, Recycling, elapsed
from fastinetd.system.linux cimport i32, i64, now_monotonic, u32, u64

cdef enum WorkerState:
    WORKER_NONE = 0
    WORKER_STARTING = 1
    WORKER_IDLE = 2
    WORKER_BUSY = 3
    WORKER_LEAVING = 4  # it has been told to end, and has no connection

cdef struct Worker:
    u32 state
    u32 turn
    u32 pool
    u32 below  # the next idle one; NOBODY: it is the last
    u32 slot  # of its connection
    i32 pid
    int pidfd
    int socket
    int other  # the worker's end: what is still in it when the worker is dead, it never had
    u64 since
    u64 busy_since
    u64 idle_since
    bint received  # it is known to have taken its last connection out of the socket
    u64 told_at  # when it was told to end
    u64 served
    u64 requests  # this worker's own limits
    u64 age
    u64 rss
    u64 weighed_at

cdef struct Waiting:  # by slot: an admitted client that waits for a worker
    int kept  # its descriptor + 1; 0: none
    u32 next
    i64 waited  # for the doorman, before it had a slot

cdef struct WorkerPool:
    PoolLife life
    u32 first_listener
    u32 listeners
    u32 idle  # the one that was idle last; NOBODY: none
    u32 idle_count
    u32 count  # all but those that leave
    u32 starting
    u32 head  # slots that wait
    u32 tail
    u32 waiting
    u32 surplus  # seconds in a row with more idle ones than wanted
    u64 tended
    u64 short_since  # when there began to be fewer idle ones than wanted, or this was looked at last
    u32 freed  # connections that workers have finished with since
    u32 at_once  # so many workers keep this acceptor's part of the processors busy
    u64 begun_at  # when the last worker was started
    bint proven  # a worker was ready once, since the program's files were as they are

cdef enum:
    LONG = 5_000_000  # ns to be without enough idle workers, or to wait for one
    OFTEN = 500_000  # ns: where workers become free more often, none need be idle


cdef inline void look_anew(WorkerPool *pool, u64 now) noexcept nogil:
    """From now on see how often workers become free."""
    pool.short_since, pool.freed = now, 0


cdef inline bint hopeless(WorkerPool *pool) noexcept nogil:
    """Whether nothing can be expected of the pool: no worker is ready, and none that will be soon as others have been."""
    return pool.count == pool.starting and not (
        pool.proven and pool.starting and elapsed(pool.begun_at, now_monotonic()) < TAKEN_WITHIN)


cdef inline bint too_few(WorkerPool *pool, u64 oldest, u64 now) noexcept nogil:
    """Whether a pool needs another worker; `oldest` is when the first of those that wait has come.

    It does where some are missing; where clients wait and a processor may be free; where one has waited for long; and where
    the next one would: for so long too few have been idle, and those that are busy are so with long connections. Short
    ones are served best by few workers, whose memory the processors have at hand.
    """
    cdef u64 short = elapsed(pool.short_since, now)
    if pool.count >= pool.life.workers:
        return False
    if pool.count < pool.life.least:
        return True
    if pool.count == 0 or pool.idle_count + pool.starting >= max(pool.life.least, pool.waiting + 1):
        return False
    if pool.waiting and (pool.count < pool.at_once or elapsed(oldest, now) >= LONG):
        return True
    return short >= LONG and pool.freed < short // OFTEN


cdef inline bint superfluous(WorkerPool *pool, Worker *w, u64 now) noexcept nogil:
    """Whether an idle worker was wanted only for a while: others have served alone ever since."""
    return (pool.count > pool.at_once and pool.idle_count > pool.life.least
            and elapsed(w.idle_since, now) >= pool.life.target.pool.spare_after)


cdef class Workers:
    cdef Servers servers
    cdef Reception at
    cdef Ledger *ledger  # the reception's
    cdef WorkerPool *pools
    cdef u32 pool_count
    cdef Worker *workers
    cdef u32 worker_count
    cdef u32 processors
    cdef Waiting *waits
    cdef u32 outstanding
    cdef int nothing
    cdef u64 due_at

    cdef void add_pool(self, u32 index, Target *target, u32 acceptors, u32 listener) noexcept nogil
    cdef bint hand(self, u32 index, Listener *listener, const Client *client, u32 slot) noexcept nogil
    cdef void queue(self, WorkerPool *pool, Listener *listener, const Client *client, u32 slot) noexcept nogil
    cdef void next_client(self, u32 index) noexcept nogil
    cdef bint give(self, u32 number, const Client *client, u32 slot) noexcept nogil
    cdef void happened(self, u32 kind, u32 index) noexcept nogil
    cdef void heard(self, u32 number) noexcept nogil
    cdef void is_free(self, u32 number) noexcept nogil
    cdef Recycling used_up(self, Worker *w, u64 now) noexcept nogil
    cdef void dismiss(self, u32 number, Recycling why, bint at_once) noexcept nogil
    cdef void dismiss_all(self, u32 index, Recycling why) noexcept nogil
    cdef void process_ended(self, u32 number) noexcept nogil
    cdef void give_back(self, Worker *w, int fd, int code, int status) noexcept nogil
    cdef void start(self, u32 index, u64 now) noexcept nogil
    cdef void take_from_idle(self, u32 number) noexcept nogil
    cdef bint wants_more(self, WorkerPool *pool, u64 now) noexcept nogil
    cdef void wake_at(self, u64 moment) noexcept nogil
    cdef void tend(self, u32 index, u64 now) noexcept nogil
    cdef void look_at(self, u32 number, u64 now) noexcept nogil
    cdef void look_at_busy(self, u32 number, u64 now) noexcept nogil
    cdef bint never_received(self, u32 number, u64 now) noexcept nogil
    cdef void abandon(self) noexcept nogil
    cdef bint knows(self, i32 pid) noexcept nogil
    cdef bint leaving(self) noexcept nogil
    cdef void its_time(self) noexcept nogil
