"""The acceptor: an admitted connection goes to its service's pool or, without one, to a program started for it.

A server, as any child, can make further children of this process (CLONE_PARENT), and so can those. No part of
this process waits for such strangers: it looks for them a second after something has ended, and reaps those whose pid
no slot and no pool has.
"""

from fastinetd.core.board cimport Board
from fastinetd.core.client cimport Client
from fastinetd.core.layout cimport EXEC, FREE, PREFORK, WORKER, Slot, section_of, slots_high, state_of
from fastinetd.core.ledger cimport own_counters
from fastinetd.core.program cimport Target
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport ON_SERVER, Servers, wait_for_child
from fastinetd.pools.pool cimport (
    CHANGED, NEVER, NOBODY, ON_WORKER, ON_WORKER_END, PLACES, acceptors_serving, milliseconds_until, share_of,
)
from fastinetd.pools.workers cimport Workers
from fastinetd.pools.zygotes cimport Zygotes
from fastinetd.system.linux cimport (
    P_ALL, P_PID, SECOND, WEXITED, WNOHANG, WNOWAIT, i32, i64, now_monotonic, siginfo_t, u32, u64,
)

import os

from libc.stdlib cimport free, malloc


RENEWAL = b"p"
"""The order on an acceptor's control pipe that has the processes of its pools replaced."""

cdef char RENEW = RENEWAL[0]

cdef enum:
    STRANGERS_IN_A_ROW = 64  # reaped in a row


cdef class Acceptor(Reception):
    """Accepts connections for programs, and sees them served."""

    cdef Servers servers
    cdef Zygotes zygotes
    cdef Workers workers
    cdef u32 *pool_numbers  # by listener: its service's pool, among those of zygotes or of workers; NOBODY: none
    cdef u64 strangers_at  # when they are looked for

    def __init__(self, Board board, int section, listeners, int control, int doorman, u32 acceptors=1):
        """`acceptors`: how many there are; each has its part of the pools."""
        super().__init__(board, section, listeners, control, doorman)
        self.servers = Servers(self)
        self.strangers_at = NEVER
        self.find_pools(acceptors)

    cdef void find_pools(self, u32 acceptors):
        """Number the pools: a service's listeners stand side by side and have one pool."""
        cdef u32 zygotes = 0, workers = 0, i, n, share
        cdef u64 parked = 0, hands = 0
        cdef Target *target
        cdef Target *last = NULL
        self.pool_numbers = <u32 *> malloc((self.count + 1) * sizeof(u32))
        if self.pool_numbers == NULL:
            raise MemoryError
        for i in range(self.count):
            target = self.listeners[i].target
            self.pool_numbers[i] = NOBODY
            if target.pool.kind == EXEC:
                continue
            if target == last:
                self.pool_numbers[i] = self.pool_numbers[i - 1]
                continue
            last = target
            share = acceptors_serving(target.pool.kind, acceptors)
            if target.pool.kind == WORKER:
                self.pool_numbers[i] = workers
                workers += 1
                hands += 2 * share_of(target.pool.workers, share)  # those that leave beside those that come
            else:
                self.pool_numbers[i] = zygotes
                zygotes += 1
                if target.pool.kind == PREFORK:
                    parked += 2 * share_of(target.pool.most, share) + 32
        self.zygotes = Zygotes(self.servers, zygotes, <u32> min(parked, PLACES))
        self.workers = Workers(self.servers, workers, <u32> min(hands, PLACES), <u32> len(os.sched_getaffinity(0)))
        for i in range(self.count):
            target, n = self.listeners[i].target, self.pool_numbers[i]
            if n == NOBODY:
                continue
            if target.pool.kind == WORKER:
                self.workers.add_pool(n, target, acceptors, i)
            elif i == 0 or self.listeners[i - 1].target != target:
                self.zygotes.add_pool(n, target, acceptors)

    def run(self) -> None:
        """Serve until retired or left alone by the supervisor."""
        Reception.run(self)
        self.zygotes.abandon()
        self.workers.abandon()

    def __dealloc__(self):
        free(self.pool_numbers)

    cdef void serve_client(self, u32 index, Client *client, u32 slot) noexcept nogil:
        cdef Target *target = self.listeners[index].target
        cdef u32 pool = self.pool_numbers[index]
        if pool != NOBODY:
            if target.pool.kind == WORKER:
                if self.workers.hand(pool, client, slot):
                    return
            elif self.zygotes.hand(pool, client, slot):
                return
        if pool != NOBODY or target.poolless:
            own_counters(&self.ledger, target.row).pool_misses += 1
        self.servers.start(target, client, slot)

    cdef void handle_event(self, u32 kind, u32 index, u32 events) noexcept nogil:
        if self.strangers_at == NEVER:
            self.strangers_at = now_monotonic() + SECOND
        if kind == ON_SERVER:
            self.servers.happened(index)
        elif kind == ON_WORKER or kind == ON_WORKER_END:
            self.workers.handle_event(kind, index)
        else:
            self.zygotes.handle_event(kind, index)

    cdef void obey_order(self, char order) noexcept nogil:
        if order == RENEW:
            self.renew_pools()

    cdef void renew_pools(self) noexcept nogil:
        """Replace the processes that wait for clients; those that serve go on."""
        cdef u32 index
        self.zygotes.replace_all()
        for index in range(self.workers.pool_count):
            self.workers.dismiss_all(index, CHANGED)

    cdef void do_what_is_due(self) noexcept nogil:
        cdef u64 now = now_monotonic()
        self.servers.look_after()
        if self.zygotes.due() <= now:
            self.zygotes.do_what_is_due()
        if self.workers.due_at <= now:
            self.workers.do_what_is_due()
        if self.strangers_at <= now:
            self.reap_strangers(now)

    cdef void reap_strangers(self, u64 now) noexcept nogil:
        """Reap children that have ended and that no slot and no pool has: strangers."""
        cdef siginfo_t info
        cdef int count
        self.strangers_at = NEVER
        for count in range(STRANGERS_IN_A_ROW):
            if wait_for_child(P_ALL, 0, &info, NULL, WEXITED | WNOHANG | WNOWAIT) or info.si_pid == 0:
                return
            self.zygotes.read_all_replies()  # it may have sent before its end that it is a slot's server
            if self.is_known(info.si_pid):
                self.strangers_at = now + SECOND
                return
            wait_for_child(P_PID, info.si_pid, &info, NULL, WEXITED | WNOHANG)
        self.strangers_at = now + SECOND // 10

    cdef bint is_known(self, i32 pid) noexcept nogil:
        """Whether a child's end is waited for elsewhere."""
        cdef Slot *s
        cdef u32 i
        for i in range(slots_high(self.ledger.view)):
            s = &self.ledger.view.slots[i]
            if s.pid == pid and section_of(s) == self.ledger.section and state_of(s) != FREE:
                return True
        return self.zygotes.has_process(pid) or self.workers.has_worker(pid)

    cdef i64 due(self) noexcept nogil:
        cdef i64 own = self.servers.due()
        cdef i64 pools
        cdef u64 first = min(min(self.zygotes.due(), self.workers.due_at), self.strangers_at)
        if first == NEVER:
            return own
        pools = milliseconds_until(first, now_monotonic())
        return pools if own < 0 or pools < own else own

    cdef bint busy(self) noexcept nogil:
        """Connections are still with pools, and nobody has taken them; or workers that have none are about to leave."""
        return self.zygotes.handed.count > 0 or self.workers.waiting.count > 0 or self.workers.dismiss_free()
