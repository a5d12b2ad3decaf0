"""The limits of a row: servers up to a number, starts up to a rate. What is taken of them is given back here, too."""

from fastinetd.core.layout cimport View
from fastinetd.core.rates cimport RATE_CELLS, Payment, rate_give, rate_take, rate_wait
from fastinetd.system.linux cimport cas32, load32, now_monotonic, u32, u64


cdef inline bint take_one(u32 *word, u32 limit) noexcept nogil:
    """Add one unless the count has reached `limit`."""
    cdef u32 seen
    while True:
        seen = load32(word)
        if seen >= limit:
            return False
        if cas32(word, seen, seen + 1):
            return True


cdef inline void give_one(u32 *word) noexcept nogil:
    """Subtract one; never below zero, so that a wrong count cannot become an endless one."""
    cdef u32 seen
    while True:
        seen = load32(word)
        if seen == 0 or cas32(word, seen, seen - 1):
            return


cdef inline u64 *rate_cells(View *b, u32 row) noexcept nogil:
    """The cells of the row's rate (rates.pxd)."""
    return &b.rates[<u64> row * RATE_CELLS]


cdef inline u64 start_wait(View *b, u32 row) noexcept nogil:
    """Nanoseconds until the row's rate allows a start; 0: now."""
    return rate_wait(&b.rows[row].rate, rate_cells(b, row), now_monotonic())


cdef inline bint take_start(View *b, u32 row, Payment *payment) noexcept nogil:
    """Use up a start of the row's rate, if that allows one."""
    return rate_take(&b.rows[row].rate, rate_cells(b, row), now_monotonic(), payment)


cdef inline void give_start(View *b, u32 row, Payment *payment) noexcept nogil:
    """Give back a start that came to nothing, if one was taken."""
    rate_give(&b.rows[row].rate, rate_cells(b, row), payment)
