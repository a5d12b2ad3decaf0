"""Zygotes: programs held before main, or at their first use of the socket, and forked for each connection."""

from fastinetd.core.client cimport Client
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target
from fastinetd.core.reception cimport Reception
from fastinetd.core.servers cimport Servers
from fastinetd.pools.handed cimport HandedConnections
from fastinetd.pools.parked cimport ParkedChildren
from fastinetd.pools.pool cimport PoolLife, Recycling
from fastinetd.pools.wire cimport stage_reply
from fastinetd.pools.zygote cimport Zygote
from fastinetd.system.linux cimport i32, u32, u64

cdef struct ZygotePool:
    PoolLife life
    u32 zygote  # the present one; NOBODY: none

cdef class Zygotes:
    cdef Servers servers
    cdef Reception reception
    cdef Ledger *ledger  # the reception's
    cdef ParkedChildren parked
    cdef ZygotePool *pools
    cdef u32 pool_count
    cdef Zygote *zygotes
    cdef u32 zygote_count
    cdef HandedConnections handed
    cdef u64 due_at

    cdef void add_pool(self, u32 index, Target *target, u32 acceptors) noexcept nogil
    cdef bint hand(self, u32 index, const Client *client, u32 slot) noexcept nogil
    cdef bint hand_to_parked(self, u32 number, const Client *client, u32 slot) noexcept nogil
    cdef bint send(self, u32 number, bint parked, const Client *client, u32 slot) noexcept nogil
    cdef void serve_by_exec(self, u32 slot) noexcept nogil
    cdef void handle_event(self, u32 kind, u32 index) noexcept nogil
    cdef void read_replies(self, u32 number, bint parked, u32 most) noexcept nogil
    cdef void read_all_replies(self) noexcept nogil
    cdef void note_silence(self, u32 number) noexcept nogil
    cdef void note_death(self, u32 number) noexcept nogil
    cdef void mistrust(self, u32 number, i32 pid) noexcept nogil
    cdef bint act_on_reply(self, u32 number, bint parked, const stage_reply *reply, i32 pid) noexcept nogil
    cdef bint note_held(self, u32 number, u32 where, i32 call) noexcept nogil
    cdef bint note_taken(self, u32 number, bint parked, u32 seq, i32 value, i32 pid) noexcept nogil
    cdef bint note_parked(self, u32 number, u32 seq, i32 pid) noexcept nogil
    cdef bint note_not_forked(self, u32 number, u32 seq) noexcept nogil
    cdef void parked_ended(self, u32 index) noexcept nogil
    cdef void start(self, u32 index, u64 now) noexcept nogil
    cdef void give_up_unwatched(self, u32 number, int error, u64 now) noexcept nogil
    cdef void give_up(self, u32 number, Recycling why) noexcept nogil
    cdef void replace_all(self) noexcept nogil
    cdef void zygote_ended(self, u32 number) noexcept nogil
    cdef void reap_rest(self, u32 number) noexcept nogil
    cdef void abandon(self) noexcept nogil
    cdef bint has_process(self, i32 pid) noexcept nogil
    cdef void wake_at(self, u64 moment) noexcept nogil
    cdef u64 due(self) noexcept nogil
    cdef void do_what_is_due(self) noexcept nogil
    cdef void check_start(self, u32 number, u64 now) noexcept nogil
    cdef void check_handed(self, u32 number, u64 now) noexcept nogil
