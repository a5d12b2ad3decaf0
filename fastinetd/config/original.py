"""What xinetd makes of lines that mean something else to it: notes for --check, by docs/differences.md.

They are about what is accepted here as it is written. What is left out or refused has a message of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_FACILITIES = frozenset(("cron", "syslog", "kern"))
"""Facilities of syslog that xinetd does not know."""

Oddity = tuple[int, str]
"""The index of a word, and what it means to xinetd, to complete `... in xinetd`."""


def oddities_of(name: str, words: Sequence[str], *, defaults: bool) -> Iterator[Oddity]:
    """The words of an attribute's line that xinetd reads otherwise; `defaults`: the line is one of `defaults`."""
    match name:
        case "only_from" | "no_access":
            for index, word in enumerate(words):
                yield from ((index, f"{word!r} {what}") for what in _entry_oddities(word))
        case "access_times":
            for index, word in enumerate(words):
                if _is_over_midnight(word):
                    yield index, f"{word!r} drops the service"
        case "bind" | "interface" if len(words) > 1:
            yield 1, "a line with several addresses is left out, and every address listened on"
        case "v6only" if words[0].lower() == "no" and not defaults:
            yield 0, "`v6only = no` means yes"
        case "log_type" if len(words) > 1 and words[0].upper() == "SYSLOG" and words[1].lower() in _FACILITIES:
            yield 1, f"the facility {words[1]} is unknown and drops the service"


def _entry_oddities(word: str) -> Iterator[str]:
    """What xinetd makes of an entry of an access list, if it is not what is written."""
    address, _, length = word.partition("/")
    if ":" in address and length == "128":
        yield "is nobody's"
    elif "." in length and length != "0.0.0.0":
        yield "is one address"


def _is_over_midnight(span: str) -> bool:
    """Whether a span of time that can be read ends before it begins, or has an hour 24."""
    first, _, last = span.partition("-")
    start, end = ([int(part) for part in time.split(":")] for time in (first, last))
    return start >= end or end[0] == 24
