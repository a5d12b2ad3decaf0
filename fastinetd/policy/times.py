"""access_times becomes two numbers: from when until when a service is open, in Unix seconds.

The core compares the clock with an interval; days and zones are none of its business. The supervisor asks for the
next interval when one has passed, or when the clock was set. Nothing here reads a clock or a zone: both come in as
arguments.

Local time is what the converter returns, so a day may have 23, 24 or 25 hours, and an hour may come twice or never. A
window opens and closes when local clocks show its ends, each time they do: 2:00-2:59 is two hours long on the night
clocks go back, and does not open on the night they go forward. The way from a moment to the next border is first
guessed as if clocks ran on; where local and real time turn out to differ, the change between is found by halving, and
the search goes on from there. (Two changes that cancel out within a day go unseen; no zone has them.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from math import floor
from typing import Protocol

Window = tuple[int, int]
"""First and last minute of the day, both included; a first after the last spans midnight."""

EVER = 9e9
"""Seconds that no clock reaches, the year 2255; in nanoseconds a number of 64 bits still."""

ALWAYS = (-EVER, EVER)
"""The interval of a service that never closes."""

_DAY = 86400
_MOST_STEPS = 100
"""Borders and clock changes that a search looks at, some weeks of them, before a service counts as never changing."""


class LocalTime(Protocol):
    """The fields of `time.localtime` that are needed here."""

    @property
    def tm_hour(self) -> int:
        """The hour, from 0."""
        ...

    @property
    def tm_min(self) -> int:
        """The minute, from 0."""
        ...

    @property
    def tm_sec(self) -> int:
        """The second, from 0 to 60."""
        ...


Clock = Callable[[float], LocalTime]
"""Unix seconds -> local time."""


def window_at(windows: tuple[Window, ...], now: float, localtime: Clock) -> tuple[float, float]:
    """The interval [open from, open until), in Unix seconds, that holds `now`, or the next one.

    Windows that touch or overlap are one. Without windows, or with windows that leave out no minute, it is ALWAYS.
    """
    borders = _find_borders(windows)
    if not borders:
        return ALWAYS
    moment = floor(now)
    if not _is_open(borders, moment, localtime):
        moment = _next_change(borders, moment, localtime)
    return float(_last_change(borders, moment, localtime)), float(_next_change(borders, moment, localtime))


def _find_borders(windows: tuple[Window, ...]) -> list[int]:
    """Seconds of the day at which a service opens and closes, in turn, beginning with an opening; [] is always open.

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


def _second_of_day(moment: int, localtime: Clock) -> int:
    """The second of the local day at a moment in Unix seconds."""
    local = localtime(float(moment))
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec


def _count_passed(borders: list[int], second: int) -> int:
    """The number of borders that a second of the day is past, counted from the first opening; odd is open."""
    if second < borders[0]:
        second += _DAY
    return bisect_right(borders, second)


def _is_open(borders: list[int], moment: int, localtime: Clock) -> bool:
    """Whether a service with these borders is open at a moment in Unix seconds."""
    return _count_passed(borders, _second_of_day(moment, localtime)) % 2 == 1


def _next_change(borders: list[int], moment: int, localtime: Clock) -> int:
    """The first second after `moment` at which the service opens or closes; EVER if it does not."""
    state = _is_open(borders, moment, localtime)
    for _ in range(_MOST_STEPS):
        second = _second_of_day(moment, localtime)
        ahead = min((border - second) % _DAY or _DAY for border in borders)
        there = _stop_at_setting(moment, moment + ahead, localtime, forward=True)
        if _is_open(borders, there, localtime) is not state:
            return there
        moment = there
    return int(EVER)


def _last_change(borders: list[int], moment: int, localtime: Clock) -> int:
    """The second at which the service last opened or closed before `moment`, or at it; -EVER if it did not."""
    state = _is_open(borders, moment, localtime)
    for _ in range(_MOST_STEPS):
        second = _second_of_day(moment, localtime)
        back = min((second - border) % _DAY for border in borders)
        there = _stop_at_setting(moment, moment - back, localtime, forward=False)
        if _is_open(borders, there - 1, localtime) is not state:
            return there
        moment = there - 1
    return -int(EVER)


def _stop_at_setting(moment: int, target: int, localtime: Clock, *, forward: bool) -> int:
    """`target`, if local clocks run evenly between `moment` and it; else the first second after they are set.

    `forward`: `target` is after `moment`. There must be one setting between them at most.
    """

    def offset(at: int) -> int:
        """Local time minus Unix time, modulo a day."""
        return (_second_of_day(at, localtime) - at) % _DAY

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
