"""Parsers of values: the words after an operator become one typed value.

A parser is named for the value it returns. It takes the words of one line (of a list in TOML: its items), as many as
the table in settings.py allows, and returns what goes into `Service`, or raises BadValue with the index of the word at
fault. Keywords may be in any case, as in xinetd. Nothing is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import AddressValueError, IPv6Address
from keyword import iskeyword

from fastinetd.config.addresses import grave_fault
from fastinetd.config.model import UNLIMITED, LogKind, LogType, Rate

Parser = Callable[[Sequence[str]], object]

INT_MAX = 2**31 - 1
"""The largest number that xinetd reads, and that the core has room for."""

INT64_MAX = 2**63 - 1
"""The largest limit of a process, and number of bytes."""

DIGITS = 18
"""Digits that a number may have: with so many it fits 64 bits."""

_SUFFIXES = {"k": 1024, "m": 1024 * 1024}


class BadValue(Exception):
    """Raised for a value that cannot be read: the index of the word at fault and, if the syntax does not show it, why.

    `problem` follows the word in messages: `, which is not absolute`.
    """

    def __init__(self, index: int = 0, problem: str = "") -> None:
        super().__init__(index, problem)
        self.index = index
        self.problem = problem


def number(text: str, base: int = 10) -> int | None:
    """An unsigned number of at most DIGITS plain ASCII digits; None when the text is anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        return None
    try:
        return int(text, base)
    except ValueError:  # 8 and 9 in an octal number
        return None


def natural(text: str, base: int = 10) -> int | None:
    """What `number` returns, for a text that may begin with a plus sign, as strtol(3) has it."""
    return number(text.removeprefix("+"), base)


def size(text: str) -> int | None:
    """Bytes, with K (1024) or M (1024²) if wanted; None when the text is anything else."""
    factor = _SUFFIXES.get(text[-1:].lower())
    if factor is None:
        return natural(text)
    value = natural(text[:-1])
    return None if value is None else value * factor


def within(value: int | None, low: int, high: int, index: int = 0) -> int:
    """A number that was read, if it is one from `low` to `high`. Raises BadValue with `index` if not."""
    if value is None or not low <= value <= high:
        raise BadValue(index)
    return value


def is_unlimited(text: str) -> bool:
    """Whether a word means that there is no limit."""
    return text.upper() == "UNLIMITED"


def word(words: Sequence[str]) -> str:
    """One word as it is."""
    return words[0]


def protocol(words: Sequence[str]) -> str:
    """A protocol in lower case: /etc/protocols has the names so, and TCP and UDP as their aliases."""
    return words[0].lower()


def words(words: Sequence[str]) -> tuple[str, ...]:
    """All words as they are."""
    return tuple(words)


def names(words: Sequence[str]) -> tuple[str, ...]:
    """Words without blanks, which an item of a list in TOML may have."""
    for index, text in enumerate(words):
        _refuse_blanks(index, text)
    return tuple(words)


def _refuse_blanks(index: int, text: str) -> None:
    """Raise BadValue for a word that is several: in none of them would be what was meant."""
    if any(character.isspace() for character in text):
        raise BadValue(index, ", which has a blank; each is an item of its own")


def path(words: Sequence[str]) -> str:
    """An absolute path."""
    if not words[0].startswith("/"):
        raise BadValue(0, ", which is not absolute")
    return words[0]


_YES_NO = {"yes": True, "no": False}


def yes_no(words: Sequence[str]) -> bool:
    """yes or no."""
    value = _YES_NO.get(words[0].lower())
    if value is None:
        raise BadValue
    return value


def whole(low: int, high: int) -> Parser:
    """A parser of a whole number from `low` to `high`; a sign is allowed when `low` is negative."""

    def parse(words: Sequence[str]) -> int:
        text = words[0]
        negative = low < 0 and text.startswith("-")
        value = number(text[1:]) if negative else natural(text)
        return within(-value if negative and value is not None else value, low, high)

    return parse


def octal(high: int) -> Parser:
    """A parser of an octal number up to `high`."""

    def parse(words: Sequence[str]) -> int:
        return within(natural(words[0], 8), 0, high)

    return parse


def count(words: Sequence[str]) -> int | None:
    """A number from 0, or UNLIMITED (None)."""
    return None if is_unlimited(words[0]) else within(natural(words[0]), 0, INT_MAX)


def limit(words: Sequence[str]) -> int | None:
    """A number from 1, or UNLIMITED (None)."""
    return None if is_unlimited(words[0]) else within(natural(words[0]), 1, INT_MAX)


def size_limit(words: Sequence[str]) -> int | None:
    """Bytes from 1, with K or M, or UNLIMITED (None)."""
    return None if is_unlimited(words[0]) else within(size(words[0]), 1, INT64_MAX)


def handler(words: Sequence[str]) -> str:
    """MODULE:FUNCTION in Python, the module with its packages."""
    module, _, function = words[0].partition(":")
    if not all(part.isidentifier() and not iskeyword(part) for part in (*module.split("."), function)):
        raise BadValue
    return words[0]


def rate(words: Sequence[str]) -> Rate | None:
    """Connections per second and the pause in seconds of `cps`; None, no limit, when the first is 0."""
    most, pause = (within(natural(words[index]), 0, INT_MAX, index) for index in (0, 1))
    return Rate(most, 1.0, pause) if most else None


def load(words: Sequence[str]) -> float:
    """A load average above 0, in plain decimal notation."""
    text = words[0].removeprefix("+")
    digits = text.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= DIGITS):
        raise BadValue
    value = float(text)
    if value <= 0:
        raise BadValue
    return value


def _is_infinite(text: str) -> bool:
    """Whether an rlimit is none: UNLIMITED, or RLIM_INFINITY as programs print it."""
    return is_unlimited(text) or text in ("-1", str(INT64_MAX), str(2**64 - 1))


def memory_limit(words: Sequence[str]) -> int:
    """An rlimit in bytes with K or M, or UNLIMITED (-1); 0 is `not set`."""
    return UNLIMITED if _is_infinite(words[0]) else within(size(words[0]), 0, INT64_MAX)


def plain_limit(words: Sequence[str]) -> int:
    """An rlimit in seconds, or UNLIMITED (-1); 0 is `not set`."""
    return UNLIMITED if _is_infinite(words[0]) else within(natural(words[0]), 0, INT64_MAX)


def buffer(words: Sequence[str]) -> int:
    """Bytes of a socket buffer, with K or M."""
    return within(size(words[0]), 1, INT_MAX)


def one_of(*choices: str) -> Parser:
    """A parser of one of `choices`, in any case; the value is spelled as in `choices`."""
    known = {choice.lower(): choice for choice in choices}

    def parse(words: Sequence[str]) -> str:
        found = known.get(words[0].lower())
        if found is None:
            raise BadValue
        return found

    return parse


def some_of(*choices: str) -> Parser:
    """A parser of any of `choices`, in any case; the value is a frozen set, spelled as in `choices`."""
    known = {choice.lower(): choice for choice in choices}

    def parse(words: Sequence[str]) -> frozenset[str]:
        found = []
        for index, text in enumerate(words):
            choice = known.get(text.lower())
            if choice is None:
                raise BadValue(index)
            found.append(choice)
        return frozenset(found)

    return parse


def addresses(words: Sequence[str]) -> tuple[str, ...]:
    """Entries of an access list."""
    for index, text in enumerate(words):
        _refuse_blanks(index, text)
        if problem := grave_fault(text):
            raise BadValue(index, problem)
    return tuple(words)


def binds(words: Sequence[str]) -> tuple[str, ...]:
    """Addresses, host names or interface names; or the one path of a unix socket."""
    for index, text in enumerate(words):
        if "/" in text and (len(words) > 1 or not text.startswith("/")):
            raise BadValue(index)
        if "/" not in text:
            _refuse_blanks(index, text)
        if "/" not in text and not may_be_host(text):
            raise BadValue(index, ", which is no whole address")
    return tuple(words)


def may_be_host(text: str) -> bool:
    """Whether a text may name a host: an address if it has a colon or only numbers and dots, else anything."""
    if ":" in text:
        try:
            return bool(IPv6Address(text.partition("%")[0]).packed)
        except AddressValueError:
            return False
    if text.strip("0123456789."):
        return True
    *first, last = (number(part) for part in text.split("."))  # 127.1 is 127.0.0.1
    most = 256 ** (4 - len(first)) if len(first) < 4 else 0
    return last is not None and last < most and all(part is not None and part < 256 for part in first)


def variables(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """NAME=VALUE words as pairs, in their order."""
    found = []
    for index, text in enumerate(words):
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BadValue(index)
        found.append((name, value))
    return tuple(found)


def _minutes_of(text: str, index: int) -> int:
    """Minutes from midnight to H:M; 24:00 is 1440. Raises BadValue with `index`."""
    hour, colon, minute = text.partition(":")
    hours, minutes = number(hour), number(minute)
    if not colon or hours is None or minutes is None or minutes > 59 or hours * 60 + minutes > 1440:
        raise BadValue(index)
    return hours * 60 + minutes


def times(words: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Spans H:M-H:M as minutes of the day, both ends included; one that ends before it starts spans midnight."""
    found = []
    for index, text in enumerate(words):
        first, dash, last = text.partition("-")
        if not dash:
            raise BadValue(index)
        # The last minute of a day is 23:59, so 24:00 is written as that at the end and as 0:00 at the start.
        found.append((_minutes_of(first, index) % 1440, min(_minutes_of(last, index), 1439)))
    return tuple(found)


def deny_time(words: Sequence[str]) -> int:
    """Minutes; FOREVER is UNLIMITED (-1), NEVER is 0."""
    text = words[0].upper()
    if text in ("FOREVER", "NEVER"):
        return UNLIMITED if text == "FOREVER" else 0
    return within(natural(text), 0, INT_MAX)


def versions(words: Sequence[str]) -> tuple[int, int]:
    """An RPC version N or a range N-M, as first and last."""
    first, dash, last = words[0].partition("-")
    low, high = number(first), number(last if dash else first)
    if low is None or high is None or low > high:
        raise BadValue
    return low, high


FACILITIES = (
    "daemon",
    "auth",
    "authpriv",
    "user",
    "mail",
    "lpr",
    "news",
    "uucp",
    "ftp",
    "cron",
    "syslog",
    "kern",
    *(f"local{n}" for n in range(8)),
)
"""Facilities of syslog: those that xinetd knows, cron, syslog and kern."""
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""Levels of syslog."""


LOG_TYPE_SYNTAX = "SYSLOG FACILITY [LEVEL], or FILE PATH [SOFT [HARD]] with limits in bytes"
"""The words that `log_type` reads; completes `write ...`."""


def log_type(words: Sequence[str]) -> LogType:
    """`SYSLOG facility [level]` or `FILE path [soft [hard]]`; sizes are bytes, with K or M, a soft one of 0 is none."""
    kind = words[0].upper()
    if kind == "SYSLOG":
        if not 2 <= len(words) <= 3:
            raise BadValue(0, " without a facility" if len(words) < 2 else " with so many words")
        if words[1].lower() not in FACILITIES:
            raise BadValue(1, f", which is no facility ({' '.join(FACILITIES)})")
        level = words[2].lower() if len(words) > 2 else "info"
        if level not in LEVELS:
            raise BadValue(2, f", which is no level ({' '.join(LEVELS)})")
        return LogType(LogKind.SYSLOG, facility=words[1].lower(), level=level)
    if kind != "FILE":
        raise BadValue
    if not 2 <= len(words) <= 4:
        raise BadValue(0, " without a path" if len(words) < 2 else " with so many words")
    limits: list[int] = []
    for index, text in enumerate(words[2:], 2):
        value = size(text)
        if value is None:
            raise BadValue(index)
        limits.append(value)
    if len(limits) == 2 and limits[1] < limits[0]:
        raise BadValue(3, ", which is below the soft limit")
    if limits and not limits[0]:
        limits.clear()
    elif len(limits) == 1:  # what xinetd allows beyond the soft limit: a hundredth, at least 5 KiB and at most 20 KiB
        limits.append(limits[0] + min(max(limits[0] // 100, 5 * 1024), 20 * 1024))
    return LogType(
        LogKind.FILE,
        path=words[1],
        soft_limit=limits[0] if limits else None,
        hard_limit=limits[1] if limits else None,
    )
