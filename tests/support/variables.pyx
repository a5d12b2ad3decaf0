"""The variables of a connection as they are written, for values longer than the kernel has them."""

from libc.string cimport memset

from fastinetd.core.variables cimport STAGE_ROOM, write_number, write_variable
from fastinetd.system.linux cimport u32

cdef char places[2][STAGE_ROOM]


cdef tuple two_places():
    """The bytes of the place that was written, and of the next."""
    return places[0][:STAGE_ROOM], places[1][:STAGE_ROOM]


def variable(bytes name, bytes value) -> tuple:
    """What writing a variable leaves of two places that were full of `.`."""
    memset(places, c".", sizeof(places))
    write_variable(places[0], name, value)
    return two_places()


def number(bytes name, u32 value) -> tuple:
    """What writing a variable whose value is a number leaves of two places that were full of `.`."""
    memset(places, c".", sizeof(places))
    write_number(places[0], name, value)
    return two_places()
