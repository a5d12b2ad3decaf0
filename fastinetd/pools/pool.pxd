"""What all pools of an acceptor have in common: when to start a process, how, and whether its program has changed."""

from fastinetd.core.program cimport POOL_FILES, Target
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport ON_SERVER
from fastinetd.system.linux cimport i32, i64, u32, u64


cdef extern from "system/passing.h" nogil:
    struct file_mark:
        u64 inode
    int send_message(int to, const void *data, size_t size, int fd) noexcept
    int connect_pair(int *pair, bint attested) noexcept
    u64 inode_of(int fd) noexcept
    void mark_file(const char *path, file_mark *mark) noexcept

cdef extern from "<signal.h>" nogil:
    enum:
        SIGCONT, SIGKILL, SIGTERM
    int kill(i32 pid, int number)

cpdef enum PoolState:
    """What a process of a pool does."""
    HOLDING = 0  # a zygote
    STARTING = 1
    IDLE = 2
    BUSY = 3  # a worker with a connection

cpdef enum Recycling:
    """Why a process of a pool was given up."""
    REQUESTS = 0
    AGE = 1
    RSS = 2
    RUNTIME = 3
    SPARE = 4  # there were more than max_spare
    CHANGED = 5  # the program's file is another
    DIED = 6
    MISTRUSTED = 7  # it failed to start, hung, or sent what is no message of the protocol
    CPU = 8  # a worker has used half of its limit of processor time

cpdef enum HeldAt:
    """Where a zygote is held."""
    MAIN = 0
    FIRST_USE = 1  # of the connection
    EARLY = 2  # before that, at what a fork would not copy
    AT_START = 3  # so early that nothing is gained over main
    UNSUPPORTED = 4  # at main, though first_io was asked for

cpdef enum PoolEvent:
    """The reason of a POOL record: what became of a process of a pool."""
    NO_START = 1  # value: errno
    DIED_EARLY = 2  # before it was ready; value: exit status, or minus a signal
    TOO_SLOW = 3  # not ready in time; value: seconds
    UNHOLDABLE = 4  # value: an enum stage_refusal
    HELD_EARLY = 5  # first_io: held before its first use of the socket; value: the system call
    HELD_AT_MAIN = 6  # first_io cannot be had here
    UNINTELLIGIBLE = 7  # it sent what is no message of the protocol
    HUNG = 8  # it left connections unanswered; value: seconds
    OVERTIME = 9  # a worker was killed after max_runtime; value: its pid
    HELD_AT_ONCE = 10  # first_io: as HELD_EARLY, and nothing is gained; value: the system call

cdef enum:
    # Kinds of events beside those of the reception and the servers.
    ON_ZYGOTE = ON_SERVER + 1  # its pidfd
    ON_CONTROL_REPLY = ON_SERVER + 2  # the sockets to it
    ON_VOICE = ON_SERVER + 3
    ON_PARKED = ON_SERVER + 4  # the pidfd of a child that waits for its connection
    ON_WORKER = ON_SERVER + 5  # its socket
    ON_WORKER_END = ON_SERVER + 6  # its pidfd

cdef enum:
    # Of an event's index, or a message's: the number of a place, and above it how often that place was used.
    PLACES = 0xFFFF  # slots, zygotes, parked children and workers have numbers up to this one
    TURNS = 0x7FFF
    NOBODY = 0xFFFFFFFF

cdef u64 NEVER
cdef u64 REAP_AGAIN_AFTER  # where no pidfd says when a process can be reaped
cdef u64 STABLE_AFTER  # a process of a pool that lived so long was no failure
cdef u64 TAKEN_WITHIN  # a connection that no process has taken by then is given to another one


cdef struct PoolLife:
    Target *target
    u32 least  # this acceptor's share of the processes ready for a connection
    u32 most
    u32 workers
    u64 start_at  # CLOCK_MONOTONIC: not before
    u64 pause
    u64 looked_at  # when the files were compared
    file_mark marks[POOL_FILES]


cdef inline u32 share_of(u32 whole, u32 acceptors) noexcept nogil:
    """The share of one acceptor, of so many, in a number for all of them, rounded up."""
    return (whole + acceptors - 1) // acceptors


cdef u32 acceptors_serving(u32 kind, u32 count) noexcept nogil
cdef void open_pool(PoolLife *life, Target *target, u32 acceptors) noexcept nogil
cdef void pause_starts(PoolLife *life, u64 now) noexcept nogil
cdef void record_failure(Reception reception, PoolLife *life, PoolEvent event, i32 value, u64 now) noexcept nogil
cdef void reset_pause(PoolLife *life) noexcept nogil
cdef void forget_failures(PoolLife *life) noexcept nogil
cdef void look_at_files(PoolLife *life, u64 now) noexcept nogil
cdef bint files_changed(PoolLife *life, u64 now) noexcept nogil
cdef int make_pair(int *pair, bint attested) noexcept nogil
cdef void close_both(int *pair) noexcept nogil
cdef int start_process(Target *target, int fd, const int *further, int count, int further_at, bint tied,
                       i32 *pid) noexcept nogil
cdef bint own_child(i32 pid) noexcept nogil
cdef u64 jittered_limit(u64 limit) noexcept nogil
cdef u64 time_since(u64 since, u64 now) noexcept nogil
cdef i64 milliseconds_until(u64 due, u64 now) noexcept nogil
