"""Zygotes: programs held before main, or at their first use of the socket, and forked for each connection."""

from fastinetd.core.admit cimport Client
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport STAGE_VARIABLES_SIZE, Target
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport Servers
from fastinetd.pools.pool cimport PoolLife, Recycling
from fastinetd.system.linux cimport i32, i64, send, u32, u64


cdef extern from "stage/stage.h" nogil:
    enum:
        STAGE_LIBRARY
        STAGE_FORK, STAGE_PARK, STAGE_TAKE, STAGE_LEAVE
        STAGE_READY, STAGE_TOOK, STAGE_PARKED, STAGE_FAILED, STAGE_REFUSED
        STAGE_AT_MAIN, STAGE_AT_IO, STAGE_AT_OTHER, STAGE_NOT_FURTHER
        STAGE_POINT_BITS
    struct stage_request:
        u32 kind
        u32 seq
    struct stage_message:
        stage_request request
        char variables[STAGE_VARIABLES_SIZE]
    struct stage_reply:
        u32 kind
        u32 seq
        i32 value

cdef enum:
    PLACES = 0xFFFF  # slots, zygotes and parked children have numbers up to this one; what is above is their turn
    FOR_PARKING = 0x8000  # in the turn of a PARK request: tells it from a slot's
    TURNS = 0x7FFF
    WHATEVER = 0xFFFFFFFF  # answers are there
    FEW_CALLS = 40  # a program that has made no more has hardly begun: a shell makes some 60 before its script

cdef enum ZygoteState:
    ZYGOTE_NONE = 0
    ZYGOTE_STARTING = 1
    ZYGOTE_READY = 2
    ZYGOTE_LEAVING = 3  # its sockets are closed; its processes are still to be reaped

cdef struct Zygote:
    u32 state
    u32 turn  # how often this place was used: tells what is late for another from what is for this one
    u32 pool
    i32 pid  # 0: reaped
    i32 group  # its process group: of the zygote, and of children that have not taken a connection
    int pidfd
    int control
    int hand
    int voice
    u32 asked  # connections that it was asked to fork for and nobody has taken
    u32 handed  # connections on the way to a parked child
    u32 parking  # children it was asked to park
    u32 parked  # that are parked, those included that something is on the way to
    u32 free  # parked children that nothing is on the way to
    u32 leaving  # parked children that were told to leave
    u32 unwatched  # parked children without a pidfd: then the zygote is given up
    u64 since  # it is in this state
    u64 heard  # the last answer
    u64 overdue  # not before this can a connection have waited too long for one

cdef struct Handed:  # by slot: a connection that is with a zygote, or on the way to a parked child
    int kept  # its descriptor + 1; 0: none
    u32 zygote
    u32 turn
    bint parked
    i64 waited  # for the doorman, before it had a slot

cdef struct ZygotePool:
    PoolLife life
    u32 zygote  # the present one; NOBODY: none
    u32 boost  # parked children wanted beyond the least, after misses
    bint refill  # children are missing, and are asked for when those who serve have had the processor
    u32 surplus  # seconds in a row with more than are wanted
    u32 arrivals
    u64 window  # since when they are counted
    u64 tended  # when it was last thought about how many children are wanted
    double rate  # arrivals per second
    double ready  # seconds that a child takes to be parked

cdef class Zygotes:
    cdef Servers servers
    cdef Reception at
    cdef Ledger *ledger  # the reception's
    cdef ZygotePool *pools
    cdef u32 pool_count
    cdef Zygote *zygotes
    cdef u32 zygote_count
    cdef Handed *handed
    cdef u32 outstanding
    cdef u64 due_at

    cdef void add_pool(self, u32 index, Target *target, u32 acceptors) noexcept nogil
    cdef bint hand(self, u32 index, const Client *client, u32 slot) noexcept nogil
    cdef bint pass_on(self, u32 number, const Client *client, u32 slot) noexcept nogil
    cdef bint send(self, ZygotePool *pool, u32 number, bint parked, const Client *client, u32 slot) noexcept nogil
    cdef void happened(self, u32 kind, u32 index) noexcept nogil
    cdef void replies(self, u32 number, bint parked, u32 most) noexcept nogil
    cdef void fell_silent(self, u32 number) noexcept nogil
    cdef void died(self, u32 number) noexcept nogil
    cdef void mistrust(self, u32 number, i32 pid) noexcept nogil
    cdef void hear_all(self) noexcept nogil
    cdef bint understood(self, u32 number, bint parked, u32 kind, u32 seq, i32 value, i32 pid) noexcept nogil
    cdef bint is_ready(self, u32 number, u32 where, i32 call) noexcept nogil
    cdef bint took(self, u32 number, bint parked, u32 seq, i32 value, i32 pid) noexcept nogil
    cdef bint is_parked(self, u32 number, u32 seq, i32 pid) noexcept nogil
    cdef bint could_not(self, u32 number, u32 seq, i32 value) noexcept nogil
    cdef void by_exec(self, u32 slot) noexcept nogil
    cdef void start(self, u32 index, u64 now) noexcept nogil
    cdef void open_channels(self, u32 number, u64 now) noexcept nogil
    cdef void not_watched(self, u32 number, int error, u64 now) noexcept nogil
    cdef void close_down(self, u32 number, Recycling why) noexcept nogil
    cdef void renew(self) noexcept nogil
    cdef void ended(self, u32 number) noexcept nogil
    cdef void sweep(self, u32 number) noexcept nogil
    cdef bint not_parked(self, u32 number, u32 place) noexcept nogil
    cdef bint unpark(self, u32 number, u32 seq, i32 pid, int *pidfd) noexcept nogil
    cdef void let_go(self, u32 number) noexcept nogil
    cdef void fill_up(self, u32 number) noexcept nogil
    cdef void shrink(self, u32 number, u64 now) noexcept nogil
    cdef void wake_at(self, u64 moment) noexcept nogil
    cdef void its_time(self) noexcept nogil
    cdef void too_slow(self, u32 number, u64 now) noexcept nogil
    cdef void hung(self, u32 number, u64 now) noexcept nogil
