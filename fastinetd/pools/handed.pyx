"""Connections that were sent to a zygote, or to its parked children, and that no process has taken yet.

Each is kept open here: what nobody takes is served by exec. A message about one names its slot and how often that was
used, so that a late answer is not taken for one about the slot's next connection.
"""

from libc.stdlib cimport calloc, free

from fastinetd.core.client cimport Client
from fastinetd.core.servers cimport Servers, set_aside
from fastinetd.pools.pool cimport NOBODY, PLACES, TURNS
from fastinetd.system.linux cimport u32, u64


cdef class HandedConnections:
    """The connections that an acceptor has sent to its pools, by slot."""

    def __init__(self, Servers servers, bint needed):
        """`needed`: there are pools that connections may be sent to."""
        self.view = servers.ledger.view
        self.entries = <Handed *> calloc(self.view.slot_count if needed else 1, sizeof(Handed))
        if self.entries == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.entries)

    cdef u32 next_seq(self, u32 slot) noexcept nogil:
        """The seq of the slot's next message. Entries become valid when their slot comes to be used: those of slots
        that never are take no memory."""
        cdef Handed *h = &self.entries[slot]
        while self.high <= slot:
            self.entries[self.high].client.fd = -1
            self.high += 1
        h.turn = (h.turn + 1) & TURNS
        return slot | h.turn << 16

    cdef void keep(self, u32 slot, const Client *client, u32 zygote, bint parked) noexcept nogil:
        """Keep a connection that was sent with the seq of next_seq; takes it."""
        cdef Handed *h = &self.entries[slot]
        h.client, h.zygote, h.parked = client[0], zygote, parked
        h.client.fd = set_aside(client.fd, self.count)
        self.count += 1

    cdef Handed *find_claimed(self, u32 zygote, bint parked, u32 seq) noexcept nogil:
        """The connection that a message of a zygote or a parked child names by its seq; NULL: it was sent none such."""
        cdef u32 slot = seq & PLACES
        cdef Handed *h = &self.entries[slot]
        if slot >= self.high or h.client.fd < 0 or h.zygote != zygote or h.turn != seq >> 16 or h.parked != parked:
            return NULL
        return h

    cdef void remove(self, u32 slot) noexcept nogil:
        """The slot's connection is the caller's."""
        self.entries[slot].client.fd = -1
        self.count -= 1

    cdef u32 next_of(self, u32 zygote, u32 first) noexcept nogil:
        """The first slot, from `first` on, whose connection is with this zygote; NOBODY: there is none."""
        cdef u32 slot
        for slot in range(first, self.high):
            if self.entries[slot].client.fd >= 0 and self.entries[slot].zygote == zygote:
                return slot
        return NOBODY

    cdef u64 oldest_of(self, u32 zygote, u64 now) noexcept nogil:
        """When the first of the connections that are with a zygote was admitted; `now` if there is none."""
        cdef u64 first = now
        cdef u32 slot = self.next_of(zygote, 0)
        while slot != NOBODY:
            first = min(first, self.view.slots[slot].started)
            slot = self.next_of(zygote, slot + 1)
        return first
