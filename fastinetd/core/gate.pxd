"""The gate of the Board: whoever changes what is counted is inside, and the supervisor counts again while nobody is.

Theory. A process that dies between a slot and its counts leaves them apart. The supervisor closes the gate, waits until
no living process is inside, and counts again from the slots. Nobody waits for long: between `enter_gate` and
`leave_gate` nothing can block.
"""

from fastinetd.core.layout cimport Section, View
from fastinetd.core.ledger cimport Ledger
from fastinetd.system.linux cimport getppid, load32, nanosleep, store32, timespec, u32


cdef inline void pause_a_little() noexcept nogil:
    """Sleep for 50 microseconds."""
    cdef timespec t
    t.tv_sec = 0
    t.tv_nsec = 50000
    nanosleep(&t, NULL)


cdef inline void enter_gate(Ledger *ledger) noexcept nogil:
    """Begin to change what is counted. Waits while the supervisor counts again, but not for one that is gone."""
    cdef View *view = ledger.view
    cdef Section *own = &view.sections[ledger.section]
    while True:
        store32(&own.inside, 1)
        if not load32(&view.header.gate):
            return
        store32(&own.inside, 0)
        if <u32> getppid() != load32(&view.header.supervisor_pid):
            return
        pause_a_little()


cdef inline void leave_gate(Ledger *ledger) noexcept nogil:
    """Be outside again: what was counted since enter_gate is complete."""
    store32(&ledger.view.sections[ledger.section].inside, 0)
