"""Children forked ahead of time, parked until a connection comes."""

from fastinetd.pools.zygotes cimport ZygotePool, Zygotes
from fastinetd.system.linux cimport i32, u32, u64

cdef enum ParkedState:
    PARKED_NONE = 0
    PARKED_ASKED = 1
    PARKED_WAITS = 2

cdef struct Parked:
    u32 state
    u32 turn
    u32 zygote
    i32 pid
    int pidfd
    u64 asked_at

cdef class Prefork(Zygotes):
    cdef Parked *parked
    cdef u32 parked_count
    cdef u32 parked_cursor

    cdef void parked_ended(self, u32 place) noexcept nogil
    cdef void abandon(self) noexcept nogil
    cdef bint knows(self, i32 pid) noexcept nogil
    cdef void gone(self, u32 place) noexcept nogil
    cdef u32 wanted(self, ZygotePool *pool) noexcept nogil
