"""Servers: started by exec, watched by pidfd, and looked at once more before they are reaped.

Theory. Servers are started by clone with shared memory (see spawn.h), so the acceptor sleeps until exec has
succeeded or failed and knows at once which. It waits for each by a pidfd in its epoll set: exact, and the same price
with one running server and with ten thousand. An ended server is looked at first, counted and recorded, and only then
reaped: should this process die in between, the supervisor finds the zombie and does what is left. Servers that come
from a pool are watched and end in the same way.

Rules of this file
 - Descriptors below FIRST_KEPT_DESCRIPTOR are short-lived: only those are copied into a child. What stays is moved up.
 - A pidfd leaves the epoll set before it is closed: a child of another process may share it.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastinetd.core.admit cimport free_slot, record_end, record_failed_start, record_start
from fastinetd.core.client cimport Client
from fastinetd.core.layout cimport ENDED, RUNNING, WORKER, Slot, section_of, slots_high, state_of
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target, environment_for_client
from fastinetd.core.reception cimport Reception
from fastinetd.core.spawn cimport STEP_FCNTL, spawn_call, spawn_server
from fastinetd.system.linux cimport (
    EINTR, EPOLLIN, EPOLL_CTL_MOD, FIRST_KEPT_DESCRIPTOR, F_DUPFD_CLOEXEC, P_PID, WEXITED, WNOHANG, WNOWAIT, close,
    epoll_ctl, epoll_event, errno, fcntl, i32, i64, now_monotonic, rusage, siginfo_t, timeval, u32, u64,
)
from fastinetd.system.strangers cimport close_shared


cdef extern from "system/processes.h" nogil:
    enum:
        SIGALRM
    int disregard_signal(int number) noexcept
    int pidfd_of(i32 pid) noexcept

cdef enum:
    ASIDE = 20  # connections kept below FIRST_KEPT_DESCRIPTOR


cdef int start_server(Ledger *ledger, Target *target, const Client *client, u32 slot,
                      bint reset_signals) noexcept nogil:
    """Start the service's program for a client, whose connection is borrowed, and do the accounting. Returns 0, or the
    errno of the failure. A worker's program has the standard error that workers have: its client does not see it."""
    cdef spawn_call call
    cdef int fd = client.fd
    cdef int number
    call.plan = &target.spawn
    call.envp = environment_for_client(target, client)
    # Only low descriptors reach the child.
    call.fd = fd if fd < FIRST_KEPT_DESCRIPTOR else fcntl(fd, F_DUPFD_CLOEXEC, 3)
    call.errors = fcntl(target.pool.errors, F_DUPFD_CLOEXEC, 3) if target.pool.errors >= 0 else -1
    call.further_count = 0
    call.reset_signals, call.tied, call.guard = reset_signals, False, -1
    if call.fd < 0:
        number, call.step = errno, STEP_FCNTL
    else:
        number = spawn_server(&call, &ledger.view.slots[slot].pid)
    if call.fd != fd and call.fd >= 0:
        close(call.fd)
    if call.errors >= 0:
        close(call.errors)
    if number:
        record_failed_start(ledger, target, slot, number, call.step)
    else:
        record_start(ledger, target, slot, client.waited)
    return number


cdef bint end_server(Ledger *ledger, u32 slot) noexcept nogil:
    """If the slot's server has ended: account for it, reap it, free the slot. False while it runs."""
    cdef Slot *s = &ledger.view.slots[slot]
    cdef siginfo_t info
    cdef rusage usage
    memset(&usage, 0, sizeof(usage))
    cdef int error = wait_for_child(P_PID, s.pid, &info, &usage, WEXITED | WNOHANG | WNOWAIT)
    if error == 0 and info.si_pid == 0:
        return False
    if error == EINTR:
        return False
    if state_of(s) != ENDED:
        record_end(ledger, slot, info.si_code if error == 0 else 0, info.si_status if error == 0 else 0,
                   microseconds_of(&usage.ru_utime), microseconds_of(&usage.ru_stime))
    if error == 0:
        wait_for_child(P_PID, s.pid, &info, NULL, WEXITED | WNOHANG)
    free_slot(ledger, slot)
    return True


cdef u64 microseconds_of(const timeval *t) noexcept nogil:
    """A time of rusage in microseconds."""
    return <u64> t.tv_sec * 1000000 + <u64> t.tv_usec


cdef int watched_pidfd(i32 pid) noexcept nogil:
    """A pidfd of a child, at or above FIRST_KEPT_DESCRIPTOR; the caller's. -1: there are no descriptors or no
    memory."""
    cdef int low = pidfd_of(pid)
    cdef int high
    if low < 0:
        return -1
    high = fcntl(low, F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR)
    close(low)
    return high


cdef int set_aside(int fd, u32 others) noexcept nogil:
    """The descriptor of a connection that a pool keeps open beside `others`; takes `fd`. The first of them stay where
    they are; with more there would be no room for the low descriptors that children get."""
    cdef bint low = fd < FIRST_KEPT_DESCRIPTOR and others >= ASIDE
    cdef int high = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR) if low else -1
    if high < 0:
        return fd
    close(fd)
    return high


cdef class Servers:
    """The running servers of one acceptor, by slot."""

    # pidfds: by slot; -1: not watched, looked at from time to time

    def __init__(self, Reception reception):
        self.reception, self.ledger = reception, &reception.ledger
        disregard_signal(SIGALRM)  # it ends a close that sleeps (close_shared)
        self.pidfds = <i32 *> malloc(self.ledger.view.slot_count * sizeof(i32))
        if self.pidfds == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.pidfds)

    cdef void start(self, Target *target, const Client *client, u32 slot) noexcept nogil:
        """Start a server for an admitted client; takes its connection and `slot`."""
        if start_server(self.ledger, target, client, slot, False) == 0:
            self.watch(slot)
        close_shared(client.fd)

    cdef void watch(self, u32 slot) noexcept nogil:
        """Wait for the end of the slot's server, which runs."""
        cdef int pidfd = watched_pidfd(self.ledger.view.slots[slot].pid)
        self.pidfds[slot] = pidfd
        if pidfd >= 0 and self.reception.watch(pidfd, ON_SERVER, slot, EPOLLIN) < 0:
            close(pidfd)
            self.pidfds[slot] = -1
        if self.pidfds[slot] < 0:
            self.unwatched += 1

    cdef void take_over(self, u32 slot, int pidfd) noexcept nogil:
        """Watch the server of a slot by a pidfd (taken) that is in the epoll set already."""
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u64 = (<u64> ON_SERVER << 32) | slot
        epoll_ctl(self.reception.epoll, EPOLL_CTL_MOD, pidfd, &event)
        self.pidfds[slot] = pidfd

    cdef void happened(self, u32 slot) noexcept nogil:
        """The pidfd of the slot's server says that it has ended."""
        cdef int pidfd = self.pidfds[slot]
        self.reception.await_room()
        if not end_server(self.ledger, slot):
            # It ended, but cannot be waited for yet (somebody traces it): look at it from time to time instead.
            self.pidfds[slot] = -1
            self.unwatched += 1
        self.reception.forget(pidfd)

    cdef void look_after(self) noexcept nogil:
        """Look at the servers, ten times a second, that have no pidfd for want of descriptors or memory."""
        cdef u32 i
        cdef Slot *s
        cdef u64 now = now_monotonic()
        if not self.unwatched or now < self.look_at:
            return
        self.look_at = now + 100000000
        for i in range(slots_high(self.ledger.view)):
            s = &self.ledger.view.slots[i]
            if (section_of(s) == self.ledger.section and state_of(s) == RUNNING and s.method != WORKER
                    and self.pidfds[i] < 0):
                self.reception.await_room()
                if end_server(self.ledger, i):
                    self.unwatched -= 1

    cdef i64 due(self) noexcept nogil:
        """Milliseconds until look_after has something to do; -1: it has nothing."""
        cdef u64 now
        if not self.unwatched:
            return -1
        now = now_monotonic()
        return <i64> ((self.look_at - now) // 1000000) + 1 if now < self.look_at else 0
