"""What acceptor and relay have in common: listeners, admission, clients that wait for the doorman."""

from fastinetd.core.board cimport Board
from fastinetd.core.client cimport Client
from fastinetd.core.layout cimport Verdict
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target
from fastinetd.core.questions cimport Questions
from fastinetd.system.linux cimport epoll_event, i64, u32, u64

cdef enum:
    EVENTS = 256  # taken from the kernel at once
    ACCEPTS_IN_A_ROW = 16  # connections accepted in a row from one listener

cdef enum EventKind:
    ON_LISTENER = 0
    ON_CONTROL = 1
    ON_DOORMAN = 2
    ON_OTHER = 3  # this and those above are the subclass's, and so are their indices

cdef struct Listener:
    int fd
    bint paused
    u64 until  # CLOCK_MONOTONIC: when a paused one is watched again
    Target *target

cdef class Reception:
    cdef Board board
    cdef Ledger ledger
    cdef int epoll
    cdef int control
    cdef bint retired
    cdef bint alone  # the supervisor is gone
    cdef list programs
    cdef Listener *listeners
    cdef u32 count
    cdef u32 paused
    cdef Questions questions
    cdef epoll_event events[EVENTS]

    cdef int watch(self, int fd, u32 kind, u32 index, u32 events) noexcept nogil
    cdef void forget(self, int fd) noexcept nogil
    cdef void pause_listener(self, u32 index, u64 nanoseconds) noexcept nogil
    cdef void resume_listener(self, u32 index) noexcept nogil
    cdef void resume_listeners(self) noexcept nogil
    cdef void wait_for_rate(self, u32 index) noexcept nogil
    cdef void queue_was_empty(self, u32 index) noexcept nogil
    cdef void await_room(self) noexcept nogil
    cdef void serve_listener(self, u32 index) noexcept nogil
    cdef void accept_failed(self, u32 index, int number) noexcept nogil
    cdef void greet(self, u32 index, Client *client) noexcept nogil
    cdef void shut_port(self, Target *target) noexcept nogil
    cdef void refuse(self, Listener *listener, Client *client, Verdict verdict) noexcept nogil
    cdef void take_answers(self) noexcept nogil
    cdef void look_after_questions(self) noexcept nogil
    cdef void read_control(self) noexcept nogil
    cdef void leave_now(self) noexcept nogil
    cdef void retire(self) noexcept nogil
    cdef int timeout(self) noexcept nogil
    cdef void receive(self) noexcept nogil
    # the subclass's
    cdef void obey_order(self, char order) noexcept nogil
    cdef void serve_client(self, u32 index, Client *client, u32 slot) noexcept nogil
    cdef void handle_event(self, u32 kind, u32 index, u32 events) noexcept nogil
    cdef void do_what_is_due(self) noexcept nogil
    cdef i64 due(self) noexcept nogil
    cdef bint busy(self) noexcept nogil
