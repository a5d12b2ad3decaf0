"""Variables of a connection: `NAME=value` in a place of STAGE_ROOM bytes (stage/stage.h)."""

from fastinetd.system.linux cimport u32
from libc.string cimport memcpy, strlen

cdef extern from "stage/stage.h" nogil:
    enum:
        STAGE_ROOM


cdef inline void write_variable(char *into, const char *name, const char *value) noexcept nogil:
    """Write a variable whose name ends with `=`, and its NUL, into a place; what the place has no room for is cut
    off."""
    cdef size_t n = min(strlen(name), <size_t> STAGE_ROOM - 1)
    cdef size_t m = min(strlen(value), STAGE_ROOM - 1 - n)
    memcpy(into, name, n)
    memcpy(into + n, value, m)
    into[n + m] = 0


cdef inline void write_number(char *into, const char *name, u32 value) noexcept nogil:
    """Write a variable whose name ends with `=` and whose value is a number in decimal, and its NUL, into a place."""
    cdef char digits[12]
    cdef int i = 11
    digits[i] = 0
    while True:
        i -= 1
        digits[i] = <char> (48 + value % 10)
        value //= 10
        if value == 0:
            break
    write_variable(into, name, &digits[i])
