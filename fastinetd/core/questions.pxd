"""Clients whose names decide, while they wait for the doorman's answer."""

from fastinetd.core.client cimport Client
from fastinetd.system.linux cimport u32, u64

cdef enum:
    QUESTIONS = 256  # clients that may wait at a time

cdef struct Question:
    Client client  # its fd is -1: this one is unused
    u32 listener
    u32 row
    u64 cookie
    u64 deadline

cdef enum Answer:
    NO_ANSWER = 0  # none has come
    ALLOWED = 1
    REFUSED = 2
    BAD_ANSWER = 3  # what no doorman says

cdef struct Questions:
    int doorman  # the socket to it, borrowed; -1: there is none
    u32 open
    u64 asked_at  # when those that are open were asked, or the first of them
    u64 cookies
    Question all[QUESTIONS]


cdef void open_questions(Questions *questions, int doorman) noexcept nogil
cdef bint ask_doorman(Questions *questions, const Client *client, u32 listener, u32 row) noexcept nogil
cdef Answer take_answer(Questions *questions, Client *client, u32 *listener) noexcept nogil
cdef bint time_to_ask_again(Questions *questions, u64 now) noexcept nogil
cdef void ask_again(Questions *questions) noexcept nogil
cdef bint take_overdue(Questions *questions, u64 now, Client *client, u32 *listener) noexcept nogil
