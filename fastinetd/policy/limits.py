"""Rates and pauses as numbers.

A rate is kept by the generic cell rate algorithm (ITU-T I.371): one word of state, the theoretical arrival
time `tat`, in nanoseconds of the monotonic clock, and two numbers made here. The core's compare-and-swap is

    tat = max(tat, now);  allowed iff tat - now <= tolerance;  tat += increment

so that `count` starts are allowed at once after a rest, and from then on one per seconds/count; in no window
of `seconds` are there more than twice `count`. `Gcra` says the same in Python, for whatever keeps a rate
outside the core and for tests of it.

A pause grows with every failure in a row: `BackOff` holds one, for a wait-mode server that dies without
reading its socket and for a role's process that must be started again.

Nothing here reads a clock: each method that needs one takes the time as its argument, and any clock that does
not run backwards will do.
"""

from __future__ import annotations

from fastinetd.config.model import Rate

NO_LIMIT = (0, 0)
"""The numbers of no rate: an increment of 0 means that the rate word is not looked at."""

_SECOND = 1_000_000_000
_LONGEST = 1 << 60  # nanoseconds, 36 years: tat stays far from the end of a signed 64-bit word


def rate_numbers(rate: Rate | None) -> tuple[int, int]:
    """(increment, tolerance) of a rate in nanoseconds.

    NO_LIMIT for None and for a count or a period that is not positive (`cps = 0 …` switches the check off).
    The increment is rounded up, so the rate is never exceeded, and is 1 ns at least.
    """
    if rate is None or rate.count <= 0 or rate.seconds <= 0:
        return NO_LIMIT
    period = min(int(rate.seconds * _SECOND), _LONGEST)
    increment = max(1, -(-period // rate.count))
    return increment, min(increment * (rate.count - 1), _LONGEST)


class Gcra:
    """A rate and its state; times are nanoseconds."""

    __slots__ = ("increment", "tat", "tolerance")

    def __init__(self, rate: Rate | None) -> None:
        self.increment, self.tolerance = rate_numbers(rate)
        self.tat = 0

    def admit(self, now: int) -> bool:
        """Whether a start at `now` is within the rate; if so it is counted."""
        if not self.increment:
            return True
        tat = max(self.tat, now)
        if tat - now > self.tolerance:
            return False
        self.tat = tat + self.increment
        return True

    def ready_at(self, now: int) -> int:
        """When the next start is within the rate: `now`, or later."""
        return max(now, self.tat - self.tolerance)


class BackOff:
    """The pause after failures in a row; times are seconds.

    Theory: two states. At ease (`pause` is 0): a start may be tried at any time. In a row of failures
    (`pause` is the latest pause): a start may be tried from `until` on; a further failure doubles the pause
    up to the ceiling, a success ends the row. A start that was tried but has not ended yet changes nothing,
    so the owner may ask again at any time. The two numbers are the whole state and may be carried to another
    process.
    """

    __slots__ = ("_ceiling", "_factor", "_first", "pause", "until")

    def __init__(self, first: float = 0.1, factor: float = 2.0, ceiling: float = 30.0) -> None:
        self._first = first
        self._factor = factor
        self._ceiling = ceiling
        self.pause = 0.0
        self.until = 0.0

    def failed(self, now: float) -> float:
        """Note a failure; the time from which the next start may be tried."""
        self.pause = min(self.pause * self._factor or self._first, self._ceiling)
        self.until = now + self.pause
        return self.until

    def succeeded(self) -> None:
        """Note a success: the next failure pauses as the first one does."""
        self.pause = self.until = 0.0

    def ready(self, now: float) -> bool:
        """Whether a start may be tried."""
        return not self.pause or now >= self.until
