"""Admission and accounting: from a peer to a verdict and a slot, and from an ended server back to a free slot."""

from fastinetd.core.board cimport Board
from fastinetd.core.layout cimport Verdict, View
from fastinetd.core.program cimport Peer, Target
from fastinetd.core.rates cimport Payment
from fastinetd.system.linux cimport i32, i64, u32, u64

cdef struct FreeSlots:
    u32 *stack  # slots this process gave back, likely free
    u32 depth
    u32 cursor  # where to look for others

cdef class Accounts:
    cdef Board board
    cdef u32 section
    cdef FreeSlots free_slots

cdef void make_peer(Peer *peer, bytes address, int port) noexcept
cdef int open_free_slots(FreeSlots *free_slots, View *b) noexcept nogil
cdef Verdict address_verdict(Target *target, const Peer *peer) noexcept nogil
cdef Verdict decide(View *b, Target *target, const Peer *peer) noexcept nogil
cdef Verdict take_slot(View *b, u32 section, FreeSlots *free_slots, Target *target, const Peer *peer, Payment *payment,
                       u32 *slot) noexcept nogil
cdef void drop_slot(View *b, u32 section, FreeSlots *free_slots, u32 slot) noexcept nogil
cdef void held_back(View *b, u32 section, u32 row) noexcept nogil
cdef void held_no_longer(View *b, u32 section, u32 row) noexcept nogil
cdef void record_refusal(View *b, u32 section, Target *target, const Peer *peer, Verdict verdict) noexcept nogil
cdef void record_start(View *b, u32 section, Target *target, u32 slot, i64 waited) noexcept nogil
cdef void start_failed(View *b, u32 section, FreeSlots *free_slots, Target *target, u32 slot, int number,
                       int step) noexcept nogil
cdef void record_pool_event(View *b, u32 section, u32 row, u32 news, i32 value) noexcept nogil
cdef void record_end(View *b, u32 section, u32 slot, int code, int status, u64 user_us, u64 system_us) noexcept nogil
cdef void record_end_unserved(View *b, u32 section, u32 slot, int code, int status) noexcept nogil
cdef void slot_free(View *b, FreeSlots *free_slots, u32 slot) noexcept nogil
