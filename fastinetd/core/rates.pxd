"""A rate, kept by several processes without locks: so many starts in any period, and never one more.

Theory. A rate has as many cells as it allows starts, and a start needs a cell that has rested for the whole period: it
writes its own time there, by compare-and-swap. Each cell sees one start in a period, so there are never more of them
than cells, whichever process is stopped or dies in the midst of it. A free cell is likely at `next`, which goes round,
and in `returned`, which holds the last four that were given back. Both are hints: a wrong one costs a free cell
its use until `next` comes by again, which takes one period. The price is the same for any number of cells.

Rules of this file
 - Times are nanoseconds of CLOCK_MONOTONIC; 0 stands in a cell that is free.
 - What is found in shared memory is an index only after it was compared with a constant.
"""

from fastinetd.system.linux cimport cas32, cas64, i64, load32, load64, u32, u64

cdef enum:
    RATE_CELLS = 4096  # of a rate, at most; less than 0xFFFF
    CELLS_LOOKED_AT = 10  # cells that are looked at before a start is refused

cdef struct Rate:
    u32 count  # starts in a period, and cells; 0: any number of starts
    u32 next  # the cell that is likely free first
    u64 period
    u64 returned  # cells that are likely free too: up to four, 16 bits each, the cell's number plus one

cdef struct Payment:
    # A start that was taken from a rate.
    u64 stamp  # what stands in the cell; 0: nothing was taken
    u64 before  # what stood there
    u32 cell


cdef inline u32 count_of(Rate *rate) noexcept nogil:
    """The cells of a rate; not more than there is room for, whatever is written there."""
    cdef u32 count = load32(&rate.count)
    return count if count < RATE_CELLS else RATE_CELLS


cdef inline u64 cell_wait(u64 stamp, u64 period, u64 now) noexcept nogil:
    """Nanoseconds until a cell with this stamp is free."""
    return stamp + period - now if stamp and stamp + period > now else 0


cdef inline u32 likely_cell(Rate *rate, u64 *cells, u32 count, u64 now) noexcept nogil:
    """The cell that is free, or that is free first, among those around `next`.

    Mostly that is the one at `next`. It is another where a process has taken that one and has not moved `next` on yet,
    or died first; and where cells that were given back have been taken anew out of turn.
    """
    cdef u32 next = load32(&rate.next)
    cdef u32 cell = next if next < count else 0
    cdef u32 beside = cell - 1 if cell else count - 1
    cdef u32 found = cell, step
    cdef u64 oldest = load64(&cells[cell]), stamp
    if cell_wait(oldest, load64(&rate.period), now):
        for step in range(CELLS_LOOKED_AT if CELLS_LOOKED_AT < count else count):
            stamp = load64(&cells[beside])
            if stamp < oldest:
                oldest, found = stamp, beside
            beside = beside + 1 if beside + 1 < count else 0
    if found != next:
        cas32(&rate.next, next, found)
    return found


cdef inline i64 returned_cell(Rate *rate, u32 count) noexcept nogil:
    """A cell that was given back, most likely free, which no other process gets from here; -1: there is none."""
    cdef u64 seen
    cdef u32 cell
    while True:
        seen = load64(&rate.returned)
        if seen == 0:
            return -1
        cell = <u32> (seen & 0xFFFF) - 1
        if cas64(&rate.returned, seen, seen >> 16) and cell < count:
            return cell


cdef inline u64 rate_wait(Rate *rate, u64 *cells, u64 now) noexcept nogil:
    """Nanoseconds until a start is allowed; 0: now."""
    cdef u32 count = count_of(rate)
    if count == 0 or load64(&rate.returned):
        return 0
    return cell_wait(load64(&cells[likely_cell(rate, cells, count, now)]), load64(&rate.period), now)


cdef inline bint rate_take(Rate *rate, u64 *cells, u64 now, Payment *payment) noexcept nogil:
    """Use up one start, if the rate allows it, and say in `payment` which."""
    cdef u32 count = count_of(rate), cell
    cdef u64 seen
    cdef i64 returned
    payment.stamp = 0
    if count == 0:
        return True
    while True:
        returned = returned_cell(rate, count)
        cell = <u32> returned if returned >= 0 else likely_cell(rate, cells, count, now)
        seen = load64(&cells[cell])
        if cell_wait(seen, load64(&rate.period), now):
            if returned < 0:
                return False
        elif cas64(&cells[cell], seen, now):
            payment.stamp, payment.before, payment.cell = now, seen, cell
            if returned < 0:
                cas32(&rate.next, cell, cell + 1)
            return True


cdef inline void rate_give(Rate *rate, u64 *cells, Payment *payment) noexcept nogil:
    """Give back a start that came to nothing, if one was taken.

    The cell is as it was before: a process that has read the clock earlier, and only now comes to the cell, must
    still see its last start.
    """
    cdef u64 stamp = payment.stamp, seen
    payment.stamp = 0
    if stamp and cas64(&cells[payment.cell], stamp, payment.before):
        while True:
            seen = load64(&rate.returned)
            if cas64(&rate.returned, seen, seen << 16 | (payment.cell + 1)):
                return
