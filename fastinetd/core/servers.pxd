"""The servers of one acceptor: started by exec, watched, and accounted for when they end."""

from fastinetd.core.client cimport Client
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target
from fastinetd.core.reception cimport ON_OTHER, Reception
from fastinetd.system.linux cimport i32, i64, rusage, siginfo_t, timeval, u32, u64


cdef extern from "system/processes.h" nogil:
    int wait_for_child(int which, i32 id, siginfo_t *info, rusage *usage, int options) noexcept


cdef enum:
    ON_SERVER = ON_OTHER  # a server's pidfd; the index is its slot

cdef int start_server(Ledger *ledger, Target *target, const Client *client, u32 slot, bint reset_signals) noexcept nogil
cdef bint end_server(Ledger *ledger, u32 slot) noexcept nogil
cdef int watched_pidfd(i32 pid) noexcept nogil
cdef int set_aside(int fd, u32 others) noexcept nogil
cdef u64 microseconds_of(const timeval *t) noexcept nogil


cdef class Servers:
    cdef Reception reception
    cdef Ledger *ledger  # the reception's
    cdef i32 *pidfds
    cdef u32 unwatched
    cdef u64 look_at

    cdef void start(self, Target *target, const Client *client, u32 slot) noexcept nogil
    cdef void watch(self, u32 slot) noexcept nogil
    cdef void take_over(self, u32 slot, int pidfd) noexcept nogil
    cdef void happened(self, u32 slot) noexcept nogil
    cdef void look_after(self) noexcept nogil
    cdef i64 due(self) noexcept nogil
