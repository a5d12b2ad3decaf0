"""The writer's side of a section's journal on the Board. The supervisor reads it: `Board.drain`, logs/service_log.py."""

from fastinetd.core.layout cimport RECORDS, Record, Section, Slot, View, set_state, told_at
from fastinetd.system.linux cimport load32, load64, now_real, store64, swap32, u32, u64, write


cdef inline bint journal_room(View *b, u32 section, u32 records) noexcept nogil:
    cdef Section *own = &b.sections[section]
    return own.head - load64(&own.tail) + records <= RECORDS


cdef inline void wake_supervisor(View *b) noexcept nogil:
    cdef u64 one = 1
    if load32(&b.header.asleep) and swap32(&b.header.asleep, 0):
        write(b.wake, &one, sizeof(one))


cdef inline Record *journal_next(View *b, u32 section) noexcept nogil:
    """The record to fill in, its time set; the caller has asked for room and ends with journal_commit."""
    cdef Section *own = &b.sections[section]
    cdef Record *record = &own.journal[own.head & (RECORDS - 1)]
    record.when = now_real()
    record.reason = record.kind = 0
    record.pid = record.value = 0
    record.signalled = record.seconds = record.fields = 0
    return record


cdef inline void journal_commit(View *b, u32 section) noexcept nogil:
    store64(&b.sections[section].head, b.sections[section].head + 1)
    wake_supervisor(b)


cdef inline void journal_commit_with(View *b, u32 section, Slot *slot, u32 state) noexcept nogil:
    """Likewise, for the record of what the slot's state becomes."""
    slot.told = told_at(b, section, state)
    set_state(slot, state, section)
    journal_commit(b, section)
