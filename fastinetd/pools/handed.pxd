"""Connections that were sent to a zygote, or to its parked children, and that no process has taken yet."""

from fastinetd.core.client cimport Client
from fastinetd.core.layout cimport View
from fastinetd.system.linux cimport u32, u64

cdef struct Handed:
    Client client  # its fd is -1: there is none
    u32 zygote
    u32 turn  # how often this place was used: tells what is late for another from what is for this one
    bint parked

cdef class HandedConnections:
    cdef View *view
    cdef Handed *entries  # by slot
    cdef u32 high  # entries at or above were never used, and are not valid
    cdef u32 count

    cdef u32 next_seq(self, u32 slot) noexcept nogil
    cdef void keep(self, u32 slot, const Client *client, u32 zygote, bint parked) noexcept nogil
    cdef Handed *find_claimed(self, u32 zygote, bint parked, u32 seq) noexcept nogil
    cdef void remove(self, u32 slot) noexcept nogil
    cdef u32 next_of(self, u32 zygote, u32 first) noexcept nogil
    cdef u64 oldest_of(self, u32 zygote, u64 now) noexcept nogil
