"""The acceptor: from an admitted connection to a running server, and from its end back to a free slot.

Theory. Servers are started by clone with shared memory (see _spawn.h), so the acceptor sleeps until exec has
succeeded or failed and knows at once which. It waits for each by a pidfd in its epoll set: exact, and the same price
with one running server and with ten thousand. An ended server is looked at first, counted and recorded, and only then
reaped: should this process die in between, the supervisor finds the zombie and does what is left.

Rules of this file
 - Descriptors below 64 are short-lived: only those are copied into a child. What stays is moved up.
 - A pidfd leaves the epoll set before it is closed: a child of another process may share it.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastinetd._admit cimport *
from fastinetd._board cimport *
from fastinetd._linux cimport *
from fastinetd._program cimport Peer, Program, Target, environment
from fastinetd._reception cimport *

import os


cdef extern from "_spawn.h" nogil:
    struct spawn_call:
        const void *plan
        char **envp
        int fd
        int reset_signals
        int error
    int spawn_server(spawn_call *call, i32 *pid) noexcept
    void default_signals_between(int first, int last) noexcept
    int pidfd_of(i32 pid) noexcept
    int wait_for_child(int which, i32 id, siginfo_t *info, rusage *usage, int options) noexcept


cdef int start_server(View *b, u32 section, Pool *pool, Target *target, const Peer *peer, int fd, u32 slot,
                      i64 waited, bint reset_signals) noexcept nogil:
    """Start the service's program on `fd` (borrowed) and do the accounting. Returns 0, or the errno of the failure.
    `waited`: see `started`."""
    cdef spawn_call call
    cdef int number
    call.plan = &target.spawn
    call.envp = environment(target, peer, fd)
    call.fd = fd if fd < 64 else fcntl(fd, F_DUPFD_CLOEXEC, 3)  # only low descriptors reach the child
    call.reset_signals = reset_signals
    number = errno if call.fd < 0 else spawn_server(&call, &b.slots[slot].pid)
    if call.fd != fd and call.fd >= 0:
        close(call.fd)
    if number:
        start_failed(b, section, pool, target, slot, number)
    else:
        started(b, section, target, slot, waited)
    return number


cdef bint end_server(View *b, u32 section, Pool *pool, u32 slot) noexcept nogil:
    """If the slot's server has ended: account for it, reap it, free the slot. False while it runs."""
    cdef Slot *s = &b.slots[slot]
    cdef siginfo_t info
    cdef rusage usage
    memset(&usage, 0, sizeof(usage))
    cdef int error = wait_for_child(P_PID, s.pid, &info, &usage, WEXITED | WNOHANG | WNOWAIT)
    if error == 0 and info.si_pid == 0:
        return False
    if error == EINTR:
        return False
    if state_of(s) != ENDED:
        ended(b, section, slot, info.si_code if error == 0 else 0, info.si_status if error == 0 else 0,
              microseconds(&usage.ru_utime), microseconds(&usage.ru_stime))
    if error == 0:
        wait_for_child(P_PID, s.pid, &info, NULL, WEXITED | WNOHANG)
    slot_free(b, pool, slot)
    return True


cdef inline u64 microseconds(const timeval *t) noexcept nogil:
    return <u64> t.tv_sec * 1000000 + <u64> t.tv_usec


cdef class Acceptor(Reception):
    """Starts a program for each connection."""

    cdef i32 *pidfds  # by slot; -1: not watched, looked at from time to time
    cdef u32 unwatched
    cdef u64 look_at

    def __init__(self, Board board, int section, listeners, int control, int doorman):
        super().__init__(board, section, listeners, control, doorman)
        self.pidfds = <i32 *> malloc(board.view.slot_count * sizeof(i32))
        if self.pidfds == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.pidfds)

    cdef void admitted(self, Listener *listener, int fd, Peer *peer, u32 slot) noexcept nogil:
        cdef int low
        if start_server(self.b, self.section, &self.pool, listener.target, peer, fd, slot, self.waited, False) == 0:
            low = pidfd_of(self.b.slots[slot].pid)
            self.pidfds[slot] = fcntl(low, F_DUPFD_CLOEXEC, 64) if low >= 0 else -1
            if low >= 0:
                close(low)
            if self.pidfds[slot] >= 0 and self.watch(self.pidfds[slot], ON_OTHER, slot, EPOLLIN) < 0:
                close(self.pidfds[slot])
                self.pidfds[slot] = -1
            if self.pidfds[slot] < 0:
                self.unwatched += 1
        close(fd)

    cdef void happened(self, u32 index, u32 events) noexcept nogil:
        cdef int pidfd
        if index == ITS_TIME:
            self.look_after()
            return
        pidfd = self.pidfds[index]
        self.await_room()
        if not end_server(self.b, self.section, &self.pool, index):
            # It ended, but cannot be waited for yet (somebody traces it): look at it from time to time instead.
            self.pidfds[index] = -1
            self.unwatched += 1
        epoll_ctl(self.epoll, EPOLL_CTL_DEL, pidfd, NULL)
        close(pidfd)

    cdef void look_after(self) noexcept nogil:
        """Servers that could not be watched, for want of descriptors or memory, are looked at from time to time."""
        cdef u32 i
        cdef Slot *s
        cdef u64 now = now_monotonic()
        if not self.unwatched or now < self.look_at:
            return
        self.look_at = now + 100000000
        for i in range(slots_high(self.b)):
            s = &self.b.slots[i]
            if section_of(s) == self.section and state_of(s) == RUNNING and self.pidfds[i] < 0:
                self.await_room()
                if end_server(self.b, self.section, &self.pool, i):
                    self.unwatched -= 1

    cdef i64 due(self) noexcept nogil:
        cdef u64 now
        if not self.unwatched:
            return -1
        now = now_monotonic()
        return <i64> ((self.look_at - now) // 1000000) + 1 if now < self.look_at else 0


cdef class Keeper(Accounts):
    """The supervisor's hand: starts the servers of wait services, and ends what it started or adopted."""

    def start(self, Program program, int fd, bytes address=b"", int port=0, bint vouched=False) -> tuple:
        """Start a wait service's server on its socket `fd` (borrowed), for a peer whose address (4 or 16 bytes) may be
        known; `vouched`: the doorman has admitted its name. Returns (verdict, slot, pid); the slot is -1 and the pid a
        negative errno when the start failed."""
        cdef Peer peer
        cdef u32 slot = 0
        cdef View *b = &self.board.view
        cdef int number
        make_peer(&peer, address, port)
        cdef Verdict verdict = decide(b, &program.target, &peer)
        if verdict == ASK and vouched:
            verdict = ADMIT
        if verdict == ADMIT:
            verdict = take_slot(b, self.section, &self.pool, &program.target, &peer, False, &slot)
        if verdict != ADMIT:
            return verdict, -1, 0
        counters_of(b, self.section, program.target.row).accepted += 1
        number = start_server(b, self.section, &self.pool, &program.target, &peer, fd, slot, 0, True)
        if number:
            return verdict, -1, -number
        return verdict, slot, b.slots[slot].pid

    def refuse(self, Program program, verdict: Verdict, bytes address=b"", int port=0) -> None:
        """Count and record a refusal that `start` returned."""
        cdef Peer peer
        make_peer(&peer, address, port)
        counters_of(&self.board.view, self.section, program.target.row).accepted += 1
        refused(&self.board.view, self.section, &program.target, &peer, verdict)

    def recognise(self, Program program, u32 slot) -> None:
        """An adopted server whose start its dead acceptor had not recorded."""
        started(&self.board.view, self.section, &program.target, slot, -1)

    def end(self, u32 slot) -> bool:
        """Account for and reap the slot's server if it has ended (or is gone without a trace); False while it runs."""
        return end_server(&self.board.view, self.section, &self.pool, slot)


def default_signals(int first=1, int last=64) -> None:
    """Give signals the disposition of a fresh process, those that libc hides (32 and 33) included: whoever started the
    daemon may have ignored them, and servers would inherit that."""
    default_signals_between(first, last)


def spawn(Program program, int fd) -> int:
    """Start a program on `fd` without any accounting; returns its pid. For benchmarks and tests of the primitives."""
    cdef spawn_call call
    cdef Peer peer
    cdef i32 pid = 0
    memset(&peer, 0, sizeof(peer))
    call.plan = &program.target.spawn
    call.envp = environment(&program.target, &peer, fd)
    call.fd = fd
    call.reset_signals = True
    cdef int number = spawn_server(&call, &pid)
    if number:
        raise OSError(number, os.strerror(number))
    return pid


def probe() -> bool:
    """Whether this kernel and its policies allow the start by clone (some containers do not)."""
    cdef Program program = Program(0, path=b"/nonexistent", argv=[b"x"], environ=[])
    cdef int fd = os.open(os.devnull, os.O_RDWR)
    try:
        spawn(program, fd)
    except OSError as problem:
        return problem.errno == 2  # the child ran and did not find the program: the way there is free
    finally:
        os.close(fd)
    return True
