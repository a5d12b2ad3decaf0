"""One zygote: its process, and the three sockets to it (stage/stage.h).

What it is asked, what it answers and when it is given up is in zygotes.pyx.
"""

from fastinetd.core.admit cimport record_pool_event
from fastinetd.core.client cimport Client
from fastinetd.core.layout cimport Counters
from fastinetd.core.ledger cimport Ledger, own_counters
from fastinetd.core.program cimport STAGE_LIBRARY, Target, pack_variables
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport wait_for_child, watched_pidfd
from fastinetd.pools.pool cimport (
    AT_START, EARLY, FIRST_USE, HELD_AT_MAIN, HELD_AT_ONCE, HELD_EARLY, HOLDING, MAIN, NOBODY, ON_CONTROL_REPLY,
    ON_VOICE, ON_ZYGOTE, SIGKILL, STARTING, TURNS, UNSUPPORTED, PoolState, Recycling, close_both, kill, make_pair,
    own_child, send_message, start_process,
)
from fastinetd.pools.wire cimport (
    STAGE_AT_IO, STAGE_AT_MAIN, STAGE_AT_OTHER, STAGE_FORK, STAGE_NOT_FURTHER, STAGE_POINT_BITS, STAGE_TAKE,
    stage_message, stage_reply,
)
from fastinetd.system.linux cimport (
    AF_UNIX, CLD_EXITED, EAGAIN, EBADMSG, ECHILD, ECONNRESET, EINTR, EPOLLIN, EPOLL_CTL_DEL, FIRST_KEPT_DESCRIPTOR,
    F_DUPFD_CLOEXEC, P_PGID, P_PID, SHUT_RDWR, SOCK_CLOEXEC, WEXITED, WNOHANG, close, epoll_ctl, errno, fcntl, i32,
    shutdown, siginfo_t, store64, u32, u64,
)
from fastinetd.system.strangers cimport close_channel, receive_words


cdef extern from "<sys/socket.h>" nogil:
    enum:
        SOCK_STREAM
    int socketpair(int family, int kind, int protocol, int *pair)

cdef extern from "<unistd.h>" nogil:
    i32 getpgid(i32 pid)


cdef enum:
    FEW_CALLS = 40  # a program that has made no more has hardly begun: a shell makes some 60 before its script


cdef int place_of(u32 where) noexcept nogil:
    """The HeldAt in the seq of a READY message; -1: there is none such."""
    cdef u32 point = where & ((1 << STAGE_POINT_BITS) - 1)
    if point == STAGE_AT_MAIN:
        return <int> MAIN
    if point == STAGE_AT_IO:
        return <int> FIRST_USE
    if point == STAGE_AT_OTHER:
        return <int> AT_START if where >> STAGE_POINT_BITS <= FEW_CALLS else <int> EARLY
    return <int> UNSUPPORTED if point == STAGE_NOT_FURTHER else -1


cdef u32 free_zygote_place(const Zygote *zygotes, u32 count) noexcept nogil:
    """The number of a place without a zygote; NOBODY: there is none."""
    cdef u32 number
    for number in range(count):
        if zygotes[number].state == ZYGOTE_NONE:
            return number
    return NOBODY


cdef bint some_zygote_has(const Zygote *zygotes, u32 count, i32 pid) noexcept nogil:
    """Whether one of the zygotes is this process."""
    cdef u32 number
    for number in range(count):
        if zygotes[number].state != ZYGOTE_NONE and zygotes[number].pid == pid:
            return True
    return False


cdef void count_held(Ledger *ledger, u32 row, int place, i32 call) noexcept nogil:
    """A zygote that was starting is ready: count that, write to the Board where its program is held, a HeldAt, and at
    which system call; and record it if it was to be held elsewhere."""
    cdef Counters *counters = own_counters(ledger, row)
    counters.pool[<int> STARTING] -= 1
    counters.pool[<int> HOLDING] += 1
    store64(&counters.held, <u64> (<u32> call) << 8 | <u64> (place + 1))
    if place == <int> EARLY:
        record_pool_event(ledger, row, HELD_EARLY, call)
    elif place == <int> AT_START:
        record_pool_event(ledger, row, HELD_AT_ONCE, call)
    elif place == <int> UNSUPPORTED:
        record_pool_event(ledger, row, HELD_AT_MAIN, 0)


cdef void count_given_up(Ledger *ledger, u32 row, PoolState state, Recycling why) noexcept nogil:
    """Count that a zygote, which was in this state, is given up: its program is held no more."""
    cdef Counters *counters = own_counters(ledger, row)
    counters.pool[<int> state] -= 1
    counters.recycled[<int> why] += 1
    store64(&counters.held, 0)


cdef bint send_connection(Zygote *z, Target *target, bint parked, u32 seq, const Client *client) noexcept nogil:
    """Send a connection to a zygote, or to whichever of its parked children the kernel wakes; it stays open here.
    Returns whether that succeeded."""
    cdef stage_message message
    cdef size_t length = pack_variables(target, client, message.variables)
    message.request.kind, message.request.seq = STAGE_TAKE if parked else STAGE_FORK, seq
    return send_message(z.hand if parked else z.control, &message, sizeof(message.request) + length, client.fd) == 0


cdef Reading read_reply(Zygote *z, bint parked, stage_reply *reply, i32 *pid) noexcept nogil:
    """Read a message of a zygote, or of a parked child of its; *pid is the sender's, attested by the kernel."""
    cdef ssize_t length = -ECONNRESET
    while length == -ECONNRESET:  # it has ended and left requests unread; what was said before is there still
        length = receive_words(z.voice if parked else z.control, reply, sizeof(stage_reply), pid)
    if length == -EAGAIN or length == -EINTR:
        return NO_REPLY
    if length == -EBADMSG:
        return BLOCKED
    if length <= 0:
        return SILENCE
    return REPLY if length == sizeof(stage_reply) else BAD_REPLY


cdef int start_process_of_zygote(Zygote *z, Target *target) noexcept nogil:
    """Make the sockets to a zygote, and the zygote. Returns 0 or an errno; when it is 0, descriptors of `z` that could
    not be had are -1, and `errno` says why."""
    cdef int control[2]
    cdef int hand[2]
    cdef int voice[2]
    cdef int standing[2]
    cdef int further[4]
    cdef int error
    control[0] = control[1] = hand[0] = hand[1] = voice[0] = voice[1] = standing[0] = standing[1] = -1
    error = make_pair(control, True)
    if error == 0:
        error = make_pair(hand, False)
    if error == 0:
        error = make_pair(voice, True)
    if error == 0 and socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, standing) < 0:
        error = errno
    if error == 0:
        # What the program has as its connection until it has one: a socket whose other end is closed.
        close(standing[1])
        standing[1] = -1
        further[0], further[1], further[2], further[3] = target.pool.library, voice[1], control[1], hand[1]
        error = start_process(target, standing[0], further, 4, STAGE_LIBRARY, True, &z.pid)
    z.control = fcntl(control[0], F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR) if error == 0 else -1
    z.hand = fcntl(hand[0], F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR) if error == 0 else -1
    z.voice = fcntl(voice[0], F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR) if error == 0 else -1
    z.pidfd = watched_pidfd(z.pid) if error == 0 else -1
    close_both(control)
    close_both(hand)
    close_both(voice)
    close_both(standing)
    return error


cdef int watch_zygote(Zygote *z, u32 number, Reception reception) noexcept nogil:
    """Put a new zygote's pidfd and sockets into the epoll set; `number` is its place. Returns 0, or the errno for which
    something of it cannot be watched."""
    cdef u32 index = number | (z.turn & TURNS) << 16
    if z.pidfd >= 0 and reception.watch(z.pidfd, ON_ZYGOTE, index, EPOLLIN) < 0:
        close(z.pidfd)
        z.pidfd = -1  # reap_zygote looks at it from time to time
    if z.control < 0 or z.hand < 0 or z.voice < 0 or z.pidfd < 0 \
            or reception.watch(z.control, ON_CONTROL_REPLY, index, EPOLLIN) < 0 \
            or reception.watch(z.voice, ON_VOICE, index, EPOLLIN) < 0:
        return errno
    return 0


cdef void stop_watching(Zygote *z, Reception reception) noexcept nogil:
    """Take a zygote's sockets out of the epoll set."""
    epoll_ctl(reception.epoll, EPOLL_CTL_DEL, z.control, NULL)
    epoll_ctl(reception.epoll, EPOLL_CTL_DEL, z.voice, NULL)


cdef void shut_sockets(Zygote *z) noexcept nogil:
    """Shut a zygote's sockets down: no process can report any more that it has taken a connection, and no parked
    child can take one. What was sent before can still be read."""
    shutdown(z.control, SHUT_RDWR)
    shutdown(z.voice, SHUT_RDWR)
    shutdown(z.hand, SHUT_RDWR)


cdef void close_sockets(Zygote *z, Reception reception) noexcept nogil:
    """Close a zygote's sockets, from which all was read that was wanted."""
    stop_watching(z, reception)
    close_channel(z.control)
    close_channel(z.voice)
    close_channel(z.hand)


cdef void kill_if_waiting(Zygote *z, i32 pid) noexcept nogil:
    """Kill a child of a zygote, unless it serves a client: then it has left the zygote's process group."""
    if pid != z.pid and own_child(pid) and getpgid(pid) == z.group:
        kill(pid, SIGKILL)


cdef i32 reap_ended(Zygote *z, Reception reception) noexcept nogil:
    """Reap a zygote whose pidfd says that it has ended. Returns its exit status, or minus the signal that ended it."""
    cdef siginfo_t info
    cdef int error = wait_for_child(P_PID, z.pid, &info, NULL, WEXITED | WNOHANG)
    reception.forget(z.pidfd)
    z.pidfd = -1
    if error or info.si_pid:  # else another process traces it: reap_zygote tries again
        z.pid = 0
    return info.si_status if info.si_code == CLD_EXITED else -info.si_status


cdef bint reap_zygote(Zygote *z) noexcept nogil:
    """Reap a zygote that has ended and could not be watched. Returns whether it is reaped."""
    cdef siginfo_t info
    if z.pid and wait_for_child(P_PID, z.pid, &info, NULL, WEXITED | WNOHANG) == 0 and info.si_pid == 0:
        return False
    z.pid = 0
    return True


cdef bint reap_group(Zygote *z) noexcept nogil:
    """Reap what has ended of what a zygote left behind. Returns whether nothing is left of it.

    Children that never took a connection are still in its process group. Those that did have left it (setsid).
    """
    cdef siginfo_t info
    cdef int error
    while True:
        error = wait_for_child(P_PGID, z.group, &info, NULL, WEXITED | WNOHANG)
        if error == ECHILD:
            return True
        if error == 0 and info.si_pid == 0:
            return False
