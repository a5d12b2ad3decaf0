"""Rates as numbers.

The core keeps a rate (`core/rates`): so many starts in a period, and in no period of that length more. Its memory has
room for RATE_CELLS starts. A rate of more is divided: its period into equal parts, each with an equal part of the
starts, so that it is never exceeded either, but all of it is not to be had at once.
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
