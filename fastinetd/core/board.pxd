"""The Board as an object of Python: its mapping, and the View that the hot path works with."""

from fastinetd.core.layout cimport View
from fastinetd.system.linux cimport u64


cdef class Board:
    cdef View view
    cdef u64 size
    cdef readonly int fd
    cdef int map(self, int fd, bint writable) except -1
    cdef void find_parts(self) noexcept
