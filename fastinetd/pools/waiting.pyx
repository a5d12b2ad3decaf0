"""Clients that wait for a worker, first come, first served."""

from libc.stdlib cimport calloc, free

from fastinetd.core.client cimport Client
from fastinetd.core.servers cimport Servers, set_aside
from fastinetd.system.linux cimport u32


cdef class WaitingClients:
    """The clients of one acceptor that wait for a worker, in a queue for each pool."""

    def __init__(self, Servers servers, bint needed):
        """`needed`: there are pools of workers."""
        self.entries = <Waiting *> calloc(servers.ledger.view.slot_count if needed else 1, sizeof(Waiting))
        if self.entries == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.entries)

    cdef void add_client(self, Queue *queue, const Client *client, u32 slot) noexcept nogil:
        """Put an admitted client at the end of a queue; takes its connection."""
        cdef Waiting *entry = &self.entries[slot]
        entry.client = client[0]
        entry.client.fd = set_aside(client.fd, self.count)
        if queue.length:
            self.entries[queue.tail].next = slot
        else:
            queue.head = slot
        queue.tail = slot
        queue.length += 1
        self.count += 1

    cdef u32 first_client(self, Queue *queue, Client *client) noexcept nogil:
        """The slot of a queue's first client, and the client, whose connection is borrowed. The queue is not empty."""
        client[0] = self.entries[queue.head].client
        return queue.head

    cdef void remove_first(self, Queue *queue) noexcept nogil:
        """Take a queue's first client out of it; its connection is the caller's."""
        queue.head = self.entries[queue.head].next
        queue.length -= 1
        self.count -= 1
