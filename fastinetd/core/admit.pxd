"""Admission and accounting: from a peer to a verdict and a slot, and from an ended server back to a free slot."""

from fastinetd.core.client cimport Client, Peer
from fastinetd.core.layout cimport Verdict, View
from fastinetd.core.ledger cimport Ledger
from fastinetd.core.program cimport Target
from fastinetd.system.linux cimport i32, i64, u32, u64

cdef int open_ledger(Ledger *ledger, View *view, u32 section) noexcept nogil
cdef void close_ledger(Ledger *ledger) noexcept
cdef Verdict judge_peer(View *view, Target *target, const Peer *peer) noexcept nogil
cdef Verdict take_slot(Ledger *ledger, Target *target, Client *client, u32 *slot) noexcept nogil
cdef void drop_slot(Ledger *ledger, u32 slot) noexcept nogil
cdef void begin_rate_wait(Ledger *ledger, u32 row) noexcept nogil
cdef void end_rate_wait(Ledger *ledger, u32 row) noexcept nogil
cdef void record_refusal(Ledger *ledger, Target *target, const Peer *peer, Verdict verdict) noexcept nogil
cdef void record_start(Ledger *ledger, Target *target, u32 slot, i64 waited) noexcept nogil
cdef void record_datagram(Ledger *ledger, Target *target, const Peer *peer) noexcept nogil
cdef void record_failed_start(Ledger *ledger, Target *target, u32 slot, int number, int step) noexcept nogil
cdef void record_pool_event(Ledger *ledger, u32 row, u32 event, i32 value) noexcept nogil
cdef void record_end(Ledger *ledger, u32 slot, int code, int status, u64 user_us, u64 system_us) noexcept nogil
cdef void record_end_unserved(Ledger *ledger, u32 slot, int code, int status) noexcept nogil
cdef void free_slot(Ledger *ledger, u32 slot) noexcept nogil
