"""How many children shall be parked, by numbers alone: the acceptor asks for them, and lets them go (parked.pyx).

Theory. As many as come while one is made ready, twice over, and not fewer than min_spare. Whenever a connection found
none, more are wanted, twice as many each time (as Apache and PHP-FPM do it); that is forgotten by halves, each time
that what is wanted is counted again. What is too many for some of those times is let go by halves.
"""

from fastinetd.system.linux cimport SECOND, u32, u64

cdef enum:
    FORKS_IN_A_ROW = 32  # children asked for in a row, at most
    SURPLUS_COUNTS = 5  # times in a row with more children than wanted, until some are let go

cdef struct Demand:
    u32 boost  # children wanted beyond the least, after misses
    u32 surplus  # times in a row with more than are wanted
    u32 arrivals  # connections since `window`
    u64 window
    u64 counted_at  # when what is wanted was counted again
    double rate  # connections per second
    double ready  # seconds that a child takes to be parked


cdef inline void note_arrival(Demand *demand, u64 now) noexcept nogil:
    """A connection has come; the rate follows within some tenths of a second."""
    demand.arrivals += 1
    if now - demand.window > SECOND // 10:
        demand.rate = (3 * demand.rate + demand.arrivals * 1e9 / (now - demand.window)) / 4
        demand.arrivals, demand.window = 0, now


cdef inline void note_miss(Demand *demand) noexcept nogil:
    """A connection has found no child."""
    demand.boost = min(2 * demand.boost + 1, <u32> FORKS_IN_A_ROW)


cdef inline void note_parked(Demand *demand, u64 took) noexcept nogil:
    """A child is parked, so many nanoseconds after it was asked for."""
    demand.ready = (3 * demand.ready + took / 1e9) / 4


cdef inline u32 children_wanted(const Demand *demand, u32 least, u32 most) noexcept nogil:
    """How many children shall be parked, of those that no connection is on the way to."""
    cdef u32 count = <u32> (2 * demand.rate * demand.ready + 0.5)
    count = max(count, least) + demand.boost
    return min(count, most)


cdef inline u32 count_again(Demand *demand, u32 free, u32 least, u32 most, u64 now) noexcept nogil:
    """Forget half of what was wanted for misses and for connections of more than a second ago. Returns how many of the
    `free` children are to be let go."""
    cdef u32 wanted
    demand.counted_at = now
    if now - demand.window > SECOND:
        demand.rate = (demand.rate + demand.arrivals * 1e9 / (now - demand.window)) / 2
        demand.arrivals, demand.window = 0, now
    demand.boost //= 2
    wanted = children_wanted(demand, least, most)
    if free <= wanted:
        demand.surplus = 0
        return 0
    demand.surplus += 1
    return (free - wanted + 1) // 2 if demand.surplus >= SURPLUS_COUNTS else 0
