"""What log lines are made of: time stamps, syslog's numbers, and text that cannot forge a second line.

Everything here is a pure function of its arguments, but for the time zone.
"""

from __future__ import annotations

import time
from enum import IntEnum
from os import strerror

TEXT_LIMIT = 4000
"""Characters of a message; the rest is cut off, so that a line fits into a pipe at once."""


class Level(IntEnum):
    """How grave a message is: syslog's severities (RFC 3164, 4.1.1) that xinetd names in its log."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


FACILITIES = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8,
    "cron": 9, "authpriv": 10, "ftp": 11,
    "local0": 16, "local1": 17, "local2": 18, "local3": 19,
    "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}  # fmt: skip
"""Facility names and numbers (RFC 3164, 4.1.1)."""

SEVERITIES = {
    "emerg": 0, "panic": 0, "alert": 1, "crit": 2, "err": 3, "error": 3, "warning": 4, "warn": 4, "notice": 5,
    "info": 6, "debug": 7,
}  # fmt: skip
"""Level names and numbers, syslog.conf(5)'s older spellings included."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def syslog_priority(facility: str, level: str | Level) -> int:
    """The number in a syslog datagram's angle brackets. Names that do not exist count as `daemon` and `info`."""
    severity = SEVERITIES.get(level, 6) if isinstance(level, str) else int(level)
    return FACILITIES.get(facility, 3) * 8 + severity


def file_stamp(seconds: float) -> str:
    """`YY/M/D@HH:MM:SS` in local time, as xinetd writes it: month and day without a zero in front."""
    t = time.localtime(seconds)
    return f"{t.tm_year % 100:02d}/{t.tm_mon}/{t.tm_mday}@{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


def syslog_stamp(seconds: float) -> str:
    """`Mon dd hh:mm:ss` in local time, English whatever the locale (RFC 3164, 4.1.2)."""
    t = time.localtime(seconds)
    return f"{_MONTHS[t.tm_mon - 1]} {t.tm_mday:2d} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"


def printable_line(text: str) -> str:
    """`text` on one line: control characters and undecodable bytes as escapes, too much of it cut off."""
    if len(text) > TEXT_LIMIT:
        text = text[: TEXT_LIMIT - 3] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def error_text(number: int | None) -> str:
    """An errno as xinetd shows it: `No such file or directory (errno = 2)`."""
    return f"{strerror(number or 0)} (errno = {number or 0})"


def lost_text(count: int) -> str:
    """The text of the entry that counts the records which are missing from a log."""
    return f"{count} record{'' if count == 1 else 's'} could not be written"
