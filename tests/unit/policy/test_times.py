"""access_times against an oracle that looks at every minute, in zones whose clocks change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import struct_time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.policy.times import ALWAYS, Window, window_at

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # half an hour of summer time
ST_JOHNS = ZoneInfo("America/St_Johns")  # changed at 0:01 until 2011
ZONES = [BERLIN, LORD_HOWE, ST_JOHNS, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata"), ZoneInfo("UTC")]


def clock_of(zone: ZoneInfo) -> Callable[[float], struct_time]:
    return lambda moment: datetime.fromtimestamp(moment, zone).timetuple()


def at(zone: ZoneInfo, text: str, fold: int = 0) -> float:
    """Unix seconds of a local time written like 2026-11-23 8:00:00."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone, fold=fold).timestamp()


def minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def windows_of(text: str) -> tuple[Window, ...]:
    return tuple((minute(first), minute(last)) for first, last in (w.split("-") for w in text.split()))


def told(zone: ZoneInfo, windows: str, now: str, fold: int = 0) -> tuple[str, str]:
    """The answer in local time."""
    first, last = window_at(windows_of(windows), at(zone, now, fold), clock_of(zone))
    texts = [f"{datetime.fromtimestamp(moment, zone):%Y-%m-%d %H:%M:%S}" for moment in (first, last)]
    return texts[0], texts[1]


@pytest.mark.parametrize(
    ("windows", "now", "first", "last"),
    [
        ("8:00-17:00", "2026-11-23 08:00:00", "2026-11-23 08:00:00", "2026-11-23 17:01:00"),
        ("8:00-17:00", "2026-11-23 17:00:59", "2026-11-23 08:00:00", "2026-11-23 17:01:00"),
        ("8:00-17:00", "2026-11-23 17:01:00", "2026-11-24 08:00:00", "2026-11-24 17:01:00"),
        ("8:00-17:00", "2026-11-23 07:59:59", "2026-11-23 08:00:00", "2026-11-23 17:01:00"),
        ("8:00-8:00", "2026-11-23 12:00:00", "2026-11-24 08:00:00", "2026-11-24 08:01:00"),
        ("22:00-6:00", "2026-11-23 23:00:00", "2026-11-23 22:00:00", "2026-11-24 06:01:00"),
        ("22:00-6:00", "2026-11-24 05:00:00", "2026-11-23 22:00:00", "2026-11-24 06:01:00"),
        ("22:00-6:00", "2026-11-24 07:00:00", "2026-11-24 22:00:00", "2026-11-25 06:01:00"),
        ("23:59-0:00", "2026-11-23 23:59:30", "2026-11-23 23:59:00", "2026-11-24 00:01:00"),
        ("12:00-23:59", "2026-11-23 23:59:30", "2026-11-23 12:00:00", "2026-11-24 00:00:00"),
        ("0:00-0:59", "2026-11-23 23:59:59", "2026-11-24 00:00:00", "2026-11-24 01:00:00"),
        ("0:00-0:59 23:00-23:59", "2026-11-23 23:30:00", "2026-11-23 23:00:00", "2026-11-24 01:00:00"),
        ("8:00-9:59 10:00-11:00", "2026-11-23 09:00:00", "2026-11-23 08:00:00", "2026-11-23 11:01:00"),
        ("8:00-10:30 10:00-11:00", "2026-11-23 09:00:00", "2026-11-23 08:00:00", "2026-11-23 11:01:00"),
        ("8:00-9:58 10:00-11:00", "2026-11-23 09:59:59", "2026-11-23 10:00:00", "2026-11-23 11:01:00"),
        # clocks go forward from 2:00 to 3:00 on 2026-03-29 and back from 3:00 to 2:00 on 2026-10-25
        ("1:00-4:00", "2026-03-29 01:30:00", "2026-03-29 01:00:00", "2026-03-29 04:01:00"),
        ("1:00-2:29", "2026-03-29 01:30:00", "2026-03-29 01:00:00", "2026-03-29 03:00:00"),
        ("2:00-2:59", "2026-03-29 01:59:59", "2026-03-30 02:00:00", "2026-03-30 03:00:00"),
        ("2:30-4:00", "2026-03-29 01:59:59", "2026-03-29 03:00:00", "2026-03-29 04:01:00"),
        ("1:00-1:59 3:00-4:00", "2026-03-29 01:30:00", "2026-03-29 01:00:00", "2026-03-29 04:01:00"),
        ("1:00-1:59 3:00-4:00", "2026-03-29 03:30:00", "2026-03-29 01:00:00", "2026-03-29 04:01:00"),
        ("12:00-11:00", "2026-03-28 20:00:00", "2026-03-28 12:00:00", "2026-03-29 11:01:00"),
        ("1:00-4:00", "2026-10-25 01:30:00", "2026-10-25 01:00:00", "2026-10-25 04:01:00"),
        ("3:00-4:00", "2026-10-24 23:00:00", "2026-10-25 03:00:00", "2026-10-25 04:01:00"),
    ],
)
def test_intervals(windows: str, now: str, first: str, last: str) -> None:
    assert told(BERLIN, windows, now) == (first, last)


def test_the_hour_that_comes_twice() -> None:
    windows = windows_of("2:15-2:44")
    first = at(BERLIN, "2026-10-25 02:15:00"), at(BERLIN, "2026-10-25 02:45:00")
    again = at(BERLIN, "2026-10-25 02:15:00", fold=1), at(BERLIN, "2026-10-25 02:45:00", fold=1)
    assert window_at(windows, first[0] - 1, clock_of(BERLIN)) == first
    assert window_at(windows, first[1], clock_of(BERLIN)) == again
    whole = window_at(windows_of("2:00-2:59"), first[0], clock_of(BERLIN))
    assert whole == (at(BERLIN, "2026-10-25 02:00:00"), at(BERLIN, "2026-10-25 03:00:00"))
    assert whole[1] - whole[0] == 7200


@pytest.mark.parametrize(
    "windows", ["", "0:00-23:59", "23:59-0:00 0:01-23:58", "12:00-11:59", "0:00-12:00 12:01-23:59"]
)
def test_always(windows: str) -> None:
    assert window_at(windows_of(windows), 1e9, clock_of(BERLIN)) == ALWAYS


def test_the_end_holds_when_asked_at_the_end() -> None:
    """Asked again at each end, the answers follow one another without overlap."""
    windows, clock = windows_of("1:30-2:30 5:00-6:00"), clock_of(BERLIN)
    now = at(BERLIN, "2026-03-27 00:00:00")
    for _ in range(10):
        first, last = window_at(windows, now, clock)
        assert now <= first < last
        now = last


def open_at(windows: tuple[Window, ...], moment: float, zone: ZoneInfo) -> bool:
    local = datetime.fromtimestamp(moment, zone)
    now = local.hour * 60 + local.minute
    return any(a <= now <= b if a <= b else now >= a or now <= b for a, b in windows)


def oracle(windows: tuple[Window, ...], now: float, zone: ZoneInfo) -> tuple[float, float]:
    """Minute by minute; every zone here differs from the next by whole minutes."""
    moment = now // 60 * 60
    while not open_at(windows, moment, zone):
        moment += 60
    first = last = moment
    while open_at(windows, first - 60, zone):
        first -= 60
    while open_at(windows, last, zone):
        last += 60
    return first, last


some_window = st.tuples(st.integers(0, 1439), st.integers(0, 1439))
night_window = st.tuples(st.integers(0, 240), st.integers(0, 240))
DAYS = "2026-03-29 2026-10-25 2026-04-05 2026-10-04 2026-03-08 2026-11-01 2010-03-14 2010-11-07 2026-06-01"
changes = st.sampled_from([datetime.fromisoformat(day) for day in DAYS.split()])


@given(
    st.lists(some_window | night_window, min_size=1, max_size=4).map(tuple),
    changes,
    st.integers(-36 * 3600, 36 * 3600),
    st.sampled_from(ZONES),
)
def test_as_the_oracle(windows: tuple[Window, ...], day: datetime, seconds: int, zone: ZoneInfo) -> None:
    now = (day.replace(tzinfo=UTC) + timedelta(seconds=seconds)).timestamp() + 0.25
    answer = window_at(windows, now, clock_of(zone))
    minutes = {m % 1440 for a, b in windows for m in range(a, b + 1 if a <= b else b + 1441)}
    if len(minutes) == 1440:
        assert answer == ALWAYS
    else:
        assert answer == oracle(windows, now, zone)
