"""Parked children: forked ahead of time from an acceptor's zygotes, each waiting for a connection."""

from fastinetd.core.ledger cimport Ledger
from fastinetd.core.reception cimport Reception
from fastinetd.pools.parked_demand cimport Demand
from fastinetd.pools.pool cimport PoolLife
from fastinetd.system.linux cimport i32, u32, u64

cdef enum ParkedState:
    PARKED_NONE = 0
    PARKED_ASKED = 1  # the zygote was asked to fork it
    PARKED_WAITS = 2  # it waits, or has taken a connection and not said so yet

cdef struct Parked:
    u32 state
    u32 turn  # how often this place was used: tells what is late for another from what is for this one
    u32 zygote
    i32 pid
    int pidfd  # -1: it could not be watched
    u64 asked_at

cdef struct Brood:  # the parked children of one zygote
    u32 pool
    int control  # the zygote's, borrowed: where it is asked to fork them; -1: it may not be asked
    int hand  # the zygote's, borrowed: where they wait
    u32 asked
    u32 waiting  # those included that a connection is on the way to
    u32 free  # that no connection is on the way to
    u32 sent  # connections on the way
    u32 leaving  # that were asked to end
    u32 unwatched

cdef struct ParkedPool:
    PoolLife *life  # the zygotes'
    Demand demand
    bint refill  # children are missing, and are asked for when those who serve have had the processor

cdef class ParkedChildren:
    cdef Reception reception
    cdef Ledger *ledger  # the reception's
    cdef ParkedPool *pools
    cdef Brood *broods  # by zygote
    cdef Parked *children
    cdef u32 child_count
    cdef u32 cursor
    cdef u64 due_at  # CLOCK_MONOTONIC: when `tend` or `all_gone` is to be called

    cdef void add_pool(self, u32 index, PoolLife *life) noexcept nogil
    cdef void open_brood(self, u32 number, u32 pool, int control, int hand) noexcept nogil
    cdef void close_brood(self, u32 number) noexcept nogil
    cdef bint all_gone(self, u32 number, u64 now) noexcept nogil
    cdef bint expect_one(self, u32 number, u64 now) noexcept nogil
    cdef void note_sent(self, u32 number, u64 now) noexcept nogil
    cdef void note_missed(self, u32 number) noexcept nogil
    cdef int note_waiting(self, u32 number, u32 seq, i32 pid, u64 now) noexcept nogil
    cdef bint note_not_forked(self, u32 number, u32 seq, u64 now) noexcept nogil
    cdef bint release(self, u32 number, u32 seq, i32 pid, int *pidfd) noexcept nogil
    cdef u32 zygote_of(self, u32 index) noexcept nogil
    cdef bint reap_child(self, u32 index) noexcept nogil
    cdef void vacate(self, u32 place) noexcept nogil
    cdef void fork_missing(self, u32 number) noexcept nogil
    cdef void tend(self, u32 number, u64 now) noexcept nogil
    cdef void abandon(self) noexcept nogil
    cdef bint has_child(self, i32 pid) noexcept nogil
    cdef void wake_at(self, u64 moment) noexcept nogil
