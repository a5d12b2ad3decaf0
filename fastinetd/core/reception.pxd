"""What acceptor and relay have in common: listeners, admission, questions to the doorman."""

from fastinetd.core.admit cimport Client
from fastinetd.core.board cimport Board
from fastinetd.core.layout cimport Verdict
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target
from fastinetd.system.linux cimport epoll_event, i64, u32, u64

cdef enum:
    EVENTS = 256  # taken from the kernel at once
    BATCH = 16  # connections accepted in a row from one listener
    QUESTIONS = 256  # clients that may wait for the doorman at a time

cdef enum EventKind:
    ON_LISTENER = 0
    ON_CONTROL = 1
    ON_DOORMAN = 2
    ON_OTHER = 3  # this and those above are the subclass's: `index` is its own
    ON_ZYGOTE = 4  # its pidfd
    ON_CONTROL_REPLY = 5  # the sockets to it
    ON_VOICE = 6
    ON_PARKED = 7  # the pidfd of a child that waits for its connection
    ON_WORKER = 8  # its socket
    ON_WORKER_END = 9  # its pidfd

cdef struct Listener:
    int fd
    bint paused
    u32 pool  # the subclass's
    bint paused_by_pool  # until there is room for another client that waits
    u64 until  # CLOCK_MONOTONIC: when a paused one is watched again
    Target *target

cdef struct Question:
    Client client  # who waits for its answer; its fd is -1: this one is unused
    u32 listener
    u64 cookie
    u64 deadline

cdef class Reception:
    cdef Board board
    cdef Ledger ledger
    cdef int epoll
    cdef int control
    cdef int doorman
    cdef bint retired
    cdef bint alone  # the supervisor is gone
    cdef list programs
    cdef Listener *listeners
    cdef u32 count
    cdef u32 paused
    cdef Question questions[256]
    cdef u32 asking
    cdef u64 cookies
    cdef epoll_event events[256]

    cdef int watch(self, int fd, EventKind kind, u32 index, u32 events) noexcept nogil
    cdef void forget(self, int fd) noexcept nogil
    cdef void pause(self, Listener *listener, u64 nanoseconds) noexcept nogil
    cdef void resume(self) noexcept nogil
    cdef void hold_back(self, u32 index) noexcept nogil
    cdef void let_go(self, u32 index) noexcept nogil
    cdef void await_room(self) noexcept nogil
    cdef void serve(self, u32 index) noexcept nogil
    cdef void greet(self, u32 index, Client *client) noexcept nogil
    cdef void shut(self, Target *target) noexcept nogil
    cdef void refuse(self, Listener *listener, Client *client, Verdict verdict) noexcept nogil
    cdef void ask(self, u32 index, Client *client) noexcept nogil
    cdef void send_question(self, Question *question) noexcept nogil
    cdef void answers(self) noexcept nogil
    cdef void overdue(self, u64 now) noexcept nogil
    cdef void hear(self) noexcept nogil
    cdef void leave_now(self) noexcept nogil
    cdef void retire(self) noexcept nogil
    cdef int timeout(self) noexcept nogil
    cdef void receive(self) noexcept nogil
    # the subclass's
    cdef void renew_pools(self) noexcept nogil
    cdef void admitted(self, Listener *listener, Client *client, u32 slot) noexcept nogil
    cdef void happened(self, u32 kind, u32 index, u32 events) noexcept nogil
    cdef void its_time(self) noexcept nogil
    cdef i64 due(self) noexcept nogil
    cdef bint busy(self) noexcept nogil
