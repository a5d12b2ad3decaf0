"""The ledger: what a process needs to take slots, count and record. It is passed as one thing."""

from fastinetd.core.layout cimport Counters, Row, View, counters_of
from fastinetd.system.linux cimport u32

cdef struct FreeSlots:
    u32 *stack  # slots this process gave back, likely free
    u32 depth
    u32 cursor  # where to look for others

cdef struct Ledger:
    View *view  # the Board, as this process has it mapped
    u32 section  # this process's: its counters, its journal, the slots it answers for
    FreeSlots free_slots


cdef inline Counters *own_counters(Ledger *ledger, u32 row) noexcept nogil:
    """This process's counters of a service."""
    return counters_of(ledger.view, ledger.section, row)


cdef inline void count_accepted(const Row *row, Counters *counters) noexcept nogil:
    """Count a client as accepted. While clients of its service wait for the rate, it has waited too."""
    counters.accepted += 1
    if row.rate_wait_counted_to:
        counters.rate_waits += 1
