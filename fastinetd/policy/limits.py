"""Rates and pauses as numbers.

The core keeps a rate (`core/rates`): so many starts in a period, and in no period of that length more. Its memory has
room for RATE_CELLS starts. A rate of more is divided: its period into equal parts, each with an equal part of the
starts, so that it is never exceeded either, but all of it is not to be had at once.

A pause grows with every failure in a row: `BackOff` holds one, for a wait-mode server that dies without
reading its socket and for a role's process that must be started again.

Nothing here reads a clock: each method that needs one takes the time as its argument, and any clock that does
not run backwards will do.
"""

from __future__ import annotations

from fastinetd.config.model import Rate

NO_LIMIT = (0, 0)
"""The numbers of no rate."""

RATE_CELLS = 4096
"""Starts of which the core keeps the times, for each service."""

_SECOND = 1_000_000_000
_LONGEST = 1 << 60  # nanoseconds, 36 years: a time and a period still fit into 64 bits


def rate_numbers(rate: Rate | None) -> tuple[int, int]:
    """A rate as (count, period): so many starts in so many nanoseconds, RATE_CELLS at most.

    NO_LIMIT for None and for a count or a period that is not positive (`cps = 0 …` switches the check off). A rate of
    so many that a part of it would last less than a nanosecond becomes RATE_CELLS in one.
    """
    if rate is None or rate.count <= 0 or rate.seconds <= 0:
        return NO_LIMIT
    period = max(1, min(int(rate.seconds * _SECOND), _LONGEST))
    parts = -(-rate.count // RATE_CELLS)
    return max(1, min(rate.count // parts, RATE_CELLS)), max(1, -(-period // parts))


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
