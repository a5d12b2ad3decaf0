"""Pools: what zygotes and workers have in common.

Theory. Each acceptor has its own processes for each pooled service, so that every server is its own child and nothing
else changes. A process that fails is started again after a pause that grows from 0.1 to 30 seconds; meanwhile, as
whenever a pool cannot serve, connections are served by exec. Each acceptor has its share of a service's numbers, at
least one.
"""

from libc.string cimport memcmp

from fastinetd.core.admit cimport record_pool_event
from fastinetd.core.layout cimport POOL_STATES, RECYCLINGS, WORKER
from fastinetd.core.program cimport STAGE_LIBRARY, Target
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport wait_for_child
from fastinetd.core.spawn cimport spawn_call, spawn_server
from fastinetd.system.linux cimport (
    EMFILE, F_DUPFD_CLOEXEC, P_PID, SECOND, WEXITED, WNOHANG, WNOWAIT, close, errno, fcntl, i32, i64, now_monotonic,
    siginfo_t, u32, u64,
)
from fastinetd.system.strangers cimport refuse_descriptors

from fastinetd.core import layout

NEVER = 0xFFFFFFFFFFFFFFFF
REAP_AGAIN_AFTER = SECOND // 10
TAKEN_WITHIN = 5 * SECOND
STABLE_AFTER = 5 * SECOND

cdef u64 SHORTEST_PAUSE = SECOND // 10  # before the next start, after one that failed
cdef u64 LONGEST_PAUSE = 30 * SECOND
cdef u64 random_state = 0
cdef u64 MULTIPLIER = 6364136223846793005ULL  # Knuth's, of MMIX
cdef u64 HALF = 1 << 31

cdef enum:
    FIRST_LOW = 8  # where descriptors for a new process are put: above those they become, in reach of the child
    LAST_LOW = STAGE_LIBRARY - 1
    MOST_FURTHER = 4

layout.require_room(PoolState, POOL_STATES)
layout.require_room(Recycling, RECYCLINGS)


cdef u32 acceptors_serving(u32 kind, u32 count) noexcept nogil:
    """How many of all acceptors serve a service of this kind, each with its share of the pool.

    Half of them where there are workers: to pass a connection on costs so little that one more acceptor that wakes up
    for it costs more than it takes off the others (on two processors one acceptor serves a fifth more than three).
    """
    return max(count // 2, <u32> 1) if kind == WORKER else count


cdef void open_pool(PoolLife *life, Target *target, u32 acceptors) noexcept nogil:
    """Open the pool of a service in an acceptor, one of so many."""
    cdef u32 share = acceptors_serving(target.pool.kind, acceptors)
    life.target = target
    life.least, life.most = share_of(target.pool.least, share), share_of(target.pool.most, share)
    life.workers = share_of(target.pool.workers, share)
    forget_failures(life)


cdef void pause_starts(PoolLife *life, u64 now) noexcept nogil:
    """Let the next start wait, after a process of the pool that came to nothing; the one after that twice as long."""
    life.start_at = now + life.pause
    life.pause = min(2 * life.pause, LONGEST_PAUSE)


cdef void record_failure(Reception reception, PoolLife *life, PoolEvent event, i32 value, u64 now) noexcept nogil:
    """Record why a process of the pool came to nothing, and let the next start wait."""
    reception.await_room()
    record_pool_event(&reception.ledger, life.target.row, event, value)
    pause_starts(life, now)


cdef void reset_pause(PoolLife *life) noexcept nogil:
    """Let the pause after the next failure be the shortest again: a process of the pool was stable."""
    life.pause = SHORTEST_PAUSE


cdef void forget_failures(PoolLife *life) noexcept nogil:
    """Let a process be started now, whatever has gone wrong before."""
    life.pause = SHORTEST_PAUSE
    life.start_at = 0


cdef void look_at_files(PoolLife *life, u64 now) noexcept nogil:
    """Remember the program's files as they are."""
    cdef u32 i
    for i in range(life.target.pool.file_count):
        mark_file(life.target.pool.files[i], &life.marks[i])
    life.looked_at = now


cdef bint files_changed(PoolLife *life, u64 now) noexcept nogil:
    """Whether the program's files are others than when the pool was started; looks once a second at most."""
    cdef file_mark mark
    cdef u32 i
    if now - life.looked_at < SECOND:
        return False
    life.looked_at = now
    for i in range(life.target.pool.file_count):
        mark_file(life.target.pool.files[i], &mark)
        if memcmp(&mark, &life.marks[i], sizeof(mark)) != 0:
            return True
    return False


cdef int make_pair(int *pair, bint attested) noexcept nogil:
    """Make a pair of connected sockets, both close-on-exec: the first is this process's, and gets the senders' pids if
    it is `attested`; the other one is for a process of the pool. Returns 0 or an errno."""
    cdef int error = connect_pair(pair, attested)
    if error == 0:
        refuse_descriptors(pair[0])
    return error


cdef void close_both(int *pair) noexcept nogil:
    """Close what is open of a pair of descriptors."""
    cdef int i
    for i in range(2):
        if pair[i] >= 0:
            close(pair[i])


cdef int start_process(Target *target, int fd, const int *further, int count, int further_at, bint tied,
                       i32 *pid) noexcept nogil:
    """Start a process of the service's pool with `fd` as 0, 1 and 2, and `count` descriptors `further` (MOST_FURTHER at
    most) from number `further_at` on, all borrowed; `tied`: it ends with this process. Returns 0 or an errno."""
    cdef int low[MOST_FURTHER + 2]
    cdef spawn_call call
    cdef int number = 0, errors = target.pool.errors, i
    for i in range(count + 2):
        if i > count and errors < 0:
            low[i] = -1
            continue
        low[i] = fcntl(further[i] if i < count else fd if i == count else errors, F_DUPFD_CLOEXEC, <int> FIRST_LOW)
        if low[i] < 0:
            number = errno
        elif low[i] > LAST_LOW:  # too many connections just now: in a moment there is room
            number = EMFILE
    if number == 0:
        call.plan = &target.spawn
        call.envp = target.pool.envp
        call.fd, call.further, call.further_count, call.further_at = low[count], low, count, further_at
        call.reset_signals, call.tied, call.guard, call.errors = False, tied, target.pool.guard, low[count + 1]
        number = spawn_server(&call, pid)
    for i in range(count + 2):
        if low[i] >= 0:
            close(low[i])
    return number


cdef bint own_child(i32 pid) noexcept nogil:
    """Whether `pid` is a child of this process, running or not yet reaped."""
    cdef siginfo_t info
    return pid > 0 and wait_for_child(P_PID, pid, &info, NULL, WEXITED | WNOHANG | WNOWAIT) == 0


cdef u64 jittered_limit(u64 limit) noexcept nogil:
    """A limit less up to a tenth, so that processes that began together do not end together. 0 stays 0."""
    global random_state
    random_state = (random_state ^ now_monotonic()) * MULTIPLIER + 1
    return limit - <u64> (limit / 10.0 * (random_state >> 33) / HALF)


cdef u64 time_since(u64 since, u64 now) noexcept nogil:
    """Nanoseconds since then; 0 if that is later than `now`, which may be the beginning of this round."""
    return now - since if now > since else 0


cdef i64 milliseconds_until(u64 due, u64 now) noexcept nogil:
    """For epoll_wait, whose time is an int: -1 for NEVER, 0 when it is due."""
    if due == NEVER:
        return -1
    return 0 if due <= now else <i64> min((due - now) // 1000000, <u64> 0x7FFFFFFE) + 1


def acceptors_of(int kind, int count) -> int:
    """How many of `count` acceptors serve a service whose pool is of this kind, a Method."""
    return acceptors_serving(kind, count)
