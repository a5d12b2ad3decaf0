"""One worker: its process, the socket to it, and what it has used of its limits."""

from fastinetd.core.client cimport Client
from fastinetd.core.program cimport Target
from fastinetd.core.reception cimport Reception
from fastinetd.pools.pool cimport Recycling
from fastinetd.system.linux cimport i32, rusage, siginfo_t, u32, u64

cdef enum WorkerState:
    WORKER_NONE = 0
    WORKER_STARTING = 1
    WORKER_IDLE = 2
    WORKER_BUSY = 3
    WORKER_LEAVING = 4  # it was asked to end, and has no connection

cdef enum:
    KEEP = 255  # recycling_of: no reason

cdef enum Word:
    WORD_READY = 0
    WORD_NONE = 1  # nothing has come yet
    WORD_END = 2  # it has shut its socket down, and will serve no more clients
    WORD_NONSENSE = 3

cdef struct Worker:
    u32 state
    u32 turn  # how often this place was used: tells what is late for another from what is for this one
    u32 pool
    u32 below  # the next idle one; NOBODY: it is the last
    u32 slot  # of its connection
    Client client  # whose connection that is; its fd is not open here
    i32 pid
    int pidfd  # -1: it cannot be watched
    int socket
    int other  # the worker's end: what is still in it when the worker is dead, it never had
    u64 since
    u64 busy_since
    u64 idle_since
    bint received  # it is known to have taken its last connection out of the socket
    u64 dismissed_at  # when it was asked to end; 0: it was not
    u64 served
    u64 requests  # this worker's own limits; 0: none
    u64 age
    u64 rss
    u64 weighed_at
    u64 cpu

cdef int start_process_of_worker(Worker *w, Target *target, int nothing) noexcept nogil
cdef int watch_worker(Worker *w, u32 number, Reception reception) noexcept nogil
cdef bint send_client(Worker *w, Target *target, const Client *client) noexcept nogil
cdef Word read_word(Worker *w, Reception reception, i32 *status) noexcept nogil
cdef bint has_received(Worker *w) noexcept nogil
cdef Recycling recycling_of(Worker *w, u64 now, u64 *again) noexcept nogil
cdef u32 free_worker_place(const Worker *workers, u32 count) noexcept nogil
cdef bint some_worker_has(const Worker *workers, u32 count, i32 pid) noexcept nogil
cdef bint reap_worker(Worker *w, siginfo_t *info, rusage *usage) noexcept nogil
cdef int close_worker(Worker *w, Reception reception) noexcept nogil
