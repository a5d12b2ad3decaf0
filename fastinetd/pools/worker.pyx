"""One worker: its process, the socket to it, and what it has used of its limits (docs/workers.md is its side).

What it is sent, and when it is let go, is in workers.pyx.
"""

from libc.string cimport memset

from fastinetd.core.client cimport Client
from fastinetd.core.program cimport STAGE_VARIABLES_SIZE, WORKER_SOCKET, PoolSpec, Target, pack_variables, spawn_plan
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport wait_for_child, watched_pidfd
from fastinetd.pools.pool cimport (
    AGE, CPU, NOBODY, ON_WORKER, ON_WORKER_END, REQUESTS, RSS, TURNS, Recycling, close_both, jittered_limit,
    make_pair, send_message, start_process, time_since,
)
from fastinetd.system.linux cimport (
    EAGAIN, EINTR, EPOLLIN, EPOLL_CTL_DEL, FIONREAD, FIRST_KEPT_DESCRIPTOR, F_DUPFD_CLOEXEC, P_PID, RLIMIT_CPU,
    RLIM_INFINITY, SECOND, WEXITED, WNOHANG, close, epoll_ctl, errno, fcntl, i32, ioctl, rusage, siginfo_t, u32, u64,
)
from fastinetd.system.strangers cimport close_channel, receive_last_descriptor, receive_words

cdef extern from "system/processes.h" nogil:
    u64 resident_bytes(i32 pid) noexcept
    u64 processor_time(i32 pid) noexcept

cdef extern from "core/spawn_plan.h" nogil:
    u64 limit_of_programs(const spawn_plan *plan, int resource) noexcept


cdef int start_process_of_worker(Worker *w, Target *target, int nothing) noexcept nogil:
    """Make the socket to a worker, and the worker, with `nothing` (borrowed) as its connection. Returns 0 or an errno;
    when it is 0, descriptors of `w` that could not be had are -1, and `errno` says why."""
    cdef PoolSpec *spec = &target.pool
    cdef int pair[2]
    cdef int error
    pair[0] = pair[1] = -1
    error = make_pair(pair, False)
    if error == 0:
        error = start_process(target, nothing, &pair[1], 1, WORKER_SOCKET, False, &w.pid)
    if error == 0:
        w.socket = fcntl(pair[0], F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR)
        w.other = fcntl(pair[1], F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR)
    close_both(pair)
    if error == 0:
        w.pidfd = watched_pidfd(w.pid)
        w.cpu = allowed_processor_time(target)
        w.requests, w.age, w.rss = jittered_limit(spec.requests), jittered_limit(spec.age), jittered_limit(spec.rss)
    return error


cdef u64 allowed_processor_time(Target *target) noexcept nogil:
    """Nanoseconds of processor time after which a worker shall serve no more clients: half of its limit (rlimit_cpu, or
    the daemon's own), at which the kernel ends it, whichever client it is serving. 0: it has no limit."""
    cdef u64 seconds = limit_of_programs(&target.spawn, RLIMIT_CPU)
    return 0 if seconds == RLIM_INFINITY else seconds * (SECOND // 2)


cdef int watch_worker(Worker *w, u32 number, Reception reception) noexcept nogil:
    """Put a new worker's pidfd and socket into the epoll set; `number` is its place. Returns 0, or the errno for which
    it cannot be watched."""
    cdef u32 index = number | (w.turn & TURNS) << 16
    if w.pidfd >= 0 and reception.watch(w.pidfd, ON_WORKER_END, index, EPOLLIN) < 0:
        close(w.pidfd)
        w.pidfd = -1
    if w.socket < 0 or w.other < 0 or w.pidfd < 0 or reception.watch(w.socket, ON_WORKER, index, EPOLLIN) < 0:
        return errno
    return 0


cdef bint send_client(Worker *w, Target *target, const Client *client) noexcept nogil:
    """Send a connection to a worker; it stays open here. Returns whether that succeeded."""
    cdef char message[STAGE_VARIABLES_SIZE]
    cdef size_t length = pack_variables(target, client, message)
    return send_message(w.socket, message, length, client.fd) == 0


cdef Word read_word(Worker *w, Reception reception, i32 *status) noexcept nogil:
    """Read a worker's message: that it is ready, with the status of what it served last."""
    cdef ssize_t length = receive_words(w.socket, status, sizeof(i32), NULL)
    if length == -EAGAIN or length == -EINTR:
        return WORD_NONE
    if length <= 0:  # nothing more comes, or what comes cannot be read
        epoll_ctl(reception.epoll, EPOLL_CTL_DEL, w.socket, NULL)
        return WORD_END if length == 0 else WORD_NONSENSE
    return WORD_READY if length == sizeof(i32) and 0 <= status[0] <= 255 else WORD_NONSENSE


cdef bint has_received(Worker *w) noexcept nogil:
    """Whether a worker has taken the connection that it was sent last out of its socket."""
    cdef int waiting = 0
    # Not by a peek, which has the connection open for a moment.
    w.received = ioctl(w.other, <unsigned long> FIONREAD, &waiting) < 0 or waiting == 0
    return w.received


cdef Recycling recycling_of(Worker *w, u64 now, u64 *again) noexcept nogil:
    """Why a worker shall serve no more clients, or KEEP: then it is to be asked again at `again`, which is lowered. Its
    memory is looked at after a connection, once a second at most."""
    if w.requests and w.served >= w.requests:
        return REQUESTS
    if w.age and time_since(w.since, now) >= w.age:
        return AGE
    if w.age:
        again[0] = min(again[0], w.since + w.age)
    if w.cpu and processor_time(w.pid) >= w.cpu:
        return CPU
    if w.rss and w.weighed_at < w.busy_since:
        if time_since(w.weighed_at, now) < SECOND:
            again[0] = min(again[0], w.weighed_at + SECOND)
            return <Recycling> KEEP
        w.weighed_at = now
        if resident_bytes(w.pid) >= w.rss:
            return RSS
    return <Recycling> KEEP


cdef u32 free_worker_place(const Worker *workers, u32 count) noexcept nogil:
    """The number of a place without a worker; NOBODY: there is none."""
    cdef u32 number
    for number in range(count):
        if workers[number].state == WORKER_NONE:
            return number
    return NOBODY


cdef bint some_worker_has(const Worker *workers, u32 count, i32 pid) noexcept nogil:
    """Whether one of the workers is this process."""
    cdef u32 number
    for number in range(count):
        if workers[number].state != WORKER_NONE and workers[number].pid == pid:
            return True
    return False


cdef bint reap_worker(Worker *w, siginfo_t *info, rusage *usage) noexcept nogil:
    """Reap a worker that has ended. Returns whether it is reaped: it may be traced by another process, or run on."""
    memset(usage, 0, sizeof(rusage))
    return wait_for_child(P_PID, w.pid, info, usage, WEXITED | WNOHANG) != 0 or info.si_pid != 0


cdef int close_worker(Worker *w, Reception reception) noexcept nogil:
    """Close the descriptors of a worker that is dead. Returns the connection that it was sent last, which is now the
    caller's, if the worker had not received it; else -1. The worker had finished with those before."""
    cdef int fd = receive_last_descriptor(w.other)
    reception.forget(w.pidfd)
    epoll_ctl(reception.epoll, EPOLL_CTL_DEL, w.socket, NULL)
    close_channel(w.socket)
    close(w.other)
    w.state = WORKER_NONE
    return fd
