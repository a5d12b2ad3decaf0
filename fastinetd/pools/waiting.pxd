"""Clients that wait for a worker, first come, first served."""

from fastinetd.core.client cimport Client
from fastinetd.system.linux cimport u32

cdef struct Waiting:  # by slot
    Client client
    u32 next  # the slot that came after this one

cdef struct Queue:
    u32 head  # the slot that has waited for the longest time
    u32 tail
    u32 length

cdef class WaitingClients:
    cdef Waiting *entries
    cdef u32 count  # in all queues

    cdef void add_client(self, Queue *queue, const Client *client, u32 slot) noexcept nogil
    cdef u32 first_client(self, Queue *queue, Client *client) noexcept nogil
    cdef void remove_first(self, Queue *queue) noexcept nogil
