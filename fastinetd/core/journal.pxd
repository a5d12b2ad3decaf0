"""The writer's side of a section's journal on the Board. Its reader is the supervisor, by `Board.take_records`."""

from fastinetd.core.layout cimport RECORDS, Record, Section, Slot, View, mark_of_next_record, set_state
from fastinetd.core.ledger cimport Ledger
from fastinetd.system.linux cimport load32, load64, now_real, store64, swap32, u32, u64, write


cdef inline bint journal_room(Ledger *ledger, u32 records) noexcept nogil:
    """Whether the process's journal has room for so many records more."""
    cdef Section *own = &ledger.view.sections[ledger.section]
    return own.head - load64(&own.tail) + records <= RECORDS


cdef inline void wake_supervisor(View *view) noexcept nogil:
    """Wake the supervisor by its eventfd, if it has asked for that: once, whoever comes first."""
    cdef u64 one = 1
    if load32(&view.header.asleep) and swap32(&view.header.asleep, 0):
        write(view.wake, &one, sizeof(one))


cdef inline Record *journal_next(Ledger *ledger) noexcept nogil:
    """The record to fill in, its time set; the caller has asked for room and ends with journal_commit."""
    cdef Section *own = &ledger.view.sections[ledger.section]
    cdef Record *record = &own.journal[own.head & (RECORDS - 1)]
    record.when = now_real()
    record.reason = record.kind = 0
    record.pid = record.value = 0
    record.signalled = record.seconds = record.fields = 0
    return record


cdef inline void journal_commit(Ledger *ledger) noexcept nogil:
    """Publish the record that journal_next has given, which is complete, and wake the supervisor."""
    cdef Section *own = &ledger.view.sections[ledger.section]
    store64(&own.head, own.head + 1)
    wake_supervisor(ledger.view)


cdef inline void journal_commit_with(Ledger *ledger, Slot *slot, u32 state) noexcept nogil:
    """Commit the record of what the slot's state becomes, and change the state with it."""
    slot.record_mark = mark_of_next_record(ledger.view, ledger.section, state)
    set_state(slot, state, ledger.section)
    journal_commit(ledger)
