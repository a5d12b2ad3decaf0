"""Rates as numbers.

The core keeps a rate (`core/rates`): so many starts in a period, and in no period of that length more. It has memory
for the times of a number of starts. A rate of more is divided: its period into equal parts, each with an equal part of
the starts. It is never exceeded either, but the starts of a period cannot come all at once.
"""

from __future__ import annotations

from fastinetd.config.model import Rate

NO_RATE = (0, 0)
"""(count, period) of a service without a rate."""

_SECOND = 1_000_000_000
_LONGEST = 1 << 60  # nanoseconds, 36 years: a time and a period still fit into 64 bits


def rate_numbers(rate: Rate | None, most: int) -> tuple[int, int]:
    """A rate as (count, period): at most so many starts, `most` or fewer, in so many nanoseconds.

    NO_RATE for None and for a count or a period that is not positive (`cps = 0 …` switches the check off). A period
    whose parts would be shorter than a nanosecond has parts of a nanosecond, with `most` starts each.
    """
    if rate is None or rate.count <= 0 or rate.seconds <= 0:
        return NO_RATE
    period = max(1, min(int(rate.seconds * _SECOND), _LONGEST))
    parts = -(-rate.count // most)
    return max(1, min(rate.count // parts, most)), max(1, -(-period // parts))
