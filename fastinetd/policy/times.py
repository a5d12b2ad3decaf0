"""access_times becomes two numbers: from when until when a service is open, in Unix seconds.

The core compares the clock with an interval and knows nothing of days and zones; whoever owns the Plan asks
for the next interval when one has passed, or when the clock was set. Nothing here reads a clock or a zone:
both come in as arguments.

Local time is what the converter says it is, so a day may have 23, 24 or 25 hours, and an hour may come
twice or never. A window opens and closes when local clocks show its ends, each time they do: 2:00-2:59 is
two hours long on the night clocks go back, and does not open on the night they go forward. The way from a
moment to the next border is first guessed as if clocks ran on; where local and real time turn out to
differ, the change between is found by halving, and the search goes on from there. (Two changes that cancel
out within a day go unseen; no zone has them.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import floor
from typing import Protocol

Window = tuple[int, int]
"""Minutes of the day, both included; a first after the last spans midnight."""

EVER = 9e9
"""Farther than any clock, in seconds, and still a number of 64 bits in nanoseconds."""

ALWAYS = (-EVER, EVER)

_DAY = 86400
_SEARCH = 100  # borders and changes looked at, some weeks of them, before a service counts as never changing


class LocalTime(Protocol):
    """What is needed of `time.localtime` and its like."""

    @property
    def tm_hour(self) -> int: ...
    @property
    def tm_min(self) -> int: ...
    @property
    def tm_sec(self) -> int: ...


Clock = Callable[[float], LocalTime]
"""Unix seconds -> local time."""


def window_at(windows: tuple[Window, ...], now: float, localtime: Clock) -> tuple[float, float]:
    """The [open_from, open_until) that holds `now`, or the next one; Unix seconds.

    Windows that touch or overlap are one. No windows, or windows that leave out no minute: ALWAYS.
    """
    borders = _borders(windows)
    if not borders:
        return ALWAYS
    moment = floor(now)
    if not _open(borders, moment, localtime):
        moment = _next_change(borders, moment, localtime)
    return float(_first_of(borders, moment, localtime)), float(_next_change(borders, moment, localtime))


def _borders(windows: tuple[Window, ...]) -> list[int]:
    """Seconds of the day at which open turns to closed or back, the first an opening; [] is always open.

    The last closing lies at or beyond the end of the day when a window spans midnight.
    """
    minutes = bytearray(1440)
    for first, last in windows:
        for minute in range(first, last + 1 if first <= last else last + 1441):
            minutes[minute % 1440] = 1
    if not windows or all(minutes):
        return []
    opened = [m for m in range(1440) if minutes[m] and not minutes[m - 1]]
    closed = [m for m in range(1440) if minutes[m - 1] and not minutes[m]]
    if closed[0] <= opened[0]:
        closed = [*closed[1:], closed[0] + 1440]
    return [60 * m for pair in zip(opened, closed) for m in pair]


def _second(moment: int, localtime: Clock) -> int:
    """The second of the local day."""
    local = localtime(float(moment))
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec


def _place(borders: list[int], second: int) -> int:
    """How many borders have passed since the opening that is first on the list; odd is open."""
    if second < borders[0]:
        second += _DAY
    return bisect_right(borders, second)


def _open(borders: list[int], moment: int, localtime: Clock) -> bool:
    return _place(borders, _second(moment, localtime)) % 2 == 1


def _next_change(borders: list[int], moment: int, localtime: Clock) -> int:
    """The first second after `moment` whose state is another."""
    state = _open(borders, moment, localtime)
    for _ in range(_SEARCH):
        second = _second(moment, localtime)
        ahead = min((border - second) % _DAY or _DAY for border in borders)
        there = _same_offset(moment, moment + ahead, localtime, forward=True)
        if _open(borders, there, localtime) is not state:
            return there
        moment = there
    return int(EVER)


def _first_of(borders: list[int], moment: int, localtime: Clock) -> int:
    """The first second of the run of the same state that holds `moment`."""
    state = _open(borders, moment, localtime)
    for _ in range(_SEARCH):
        second = _second(moment, localtime)
        back = min((second - border) % _DAY for border in borders)
        there = _same_offset(moment, moment - back, localtime, forward=False)
        if _open(borders, there - 1, localtime) is not state:
            return there
        moment = there - 1
    return -int(EVER)


def _same_offset(moment: int, target: int, localtime: Clock, *, forward: bool) -> int:
    """`target`, if clocks run evenly from `moment` to there; else where they change on the way.

    Forward that is the first second with other clocks, backward the last (going back) with the same.
    """

    def offset(at: int) -> int:
        return (_second(at, localtime) - at) % _DAY

    here = offset(moment)
    if offset(target) == here:
        return target
    same, other = moment, target
    while abs(other - same) > 1:
        middle = (same + other) // 2
        if offset(middle) == here:
            same = middle
        else:
            other = middle
    return other if forward else same
