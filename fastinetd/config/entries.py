"""The records between the readers of xinetd.conf and TOML and build.py: blocks of lines as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from fastinetd.config.model import Place

Sources = Callable[[str, str, Place], Iterable[tuple[str, str]]]
"""The callback that reads the files of an `include` or `includedir` line: (keyword, path, place of the path) ->
(file name, text) of each file in turn. A file that cannot be read is reported by the callback and left out."""

MOST_ENTRIES = 32_768
"""Services that are read of one configuration: four times as many as can be started, for some may be disabled."""


class Written(NamedTuple):
    """A line that sets an attribute, split into its words."""

    name: str  # lower case
    operator: str  # = += -=
    words: list[str]
    line: int
    column: int  # of the first value; where there is none, of the end of the line
    text: str  # the whole line, for the columns of further words; "" where there is no such line
    spots: tuple[tuple[int, int], ...] = ()  # line and column of each value, where they are known without a line


class Entry:
    """One `service` or `defaults` block of a file."""

    __slots__ = ("broken", "disabled", "failed", "file", "lines", "name", "place")

    def __init__(self, name: str, place: Place) -> None:
        self.name = name  # "" for defaults
        self.place = place
        self.file = place.file
        self.lines: list[Written] = []
        self.disabled = False  # `disable = yes` was met: `lines` holds nothing of what follows it
        self.failed: set[str] = set()  # attributes whose line has an error of grammar
        self.broken = False  # an error of grammar was reported: the service must not be started


class Entries:
    """All blocks of one configuration, in reading order."""

    __slots__ = ("defaults", "services")

    def __init__(self) -> None:
        self.services: list[Entry] = []
        self.defaults: list[Entry] = []


def place_of(entry: Entry, written: Written, index: int) -> Place:
    """The place of the value with the number `index`, from 0, of a line."""
    if written.spots:
        return Place(entry.file, *written.spots[index if index < len(written.spots) else 0])
    column = written.column
    if written.text and index:
        start = column - 1  # word after word, for a word may occur within one before it
        for word in written.words[:index]:
            start = written.text.find(word, start) + len(word)
        column = written.text.find(written.words[index], start) + 1
    return Place(entry.file, written.line, max(column, 1))


def places_of(entry: Entry, written: Written) -> tuple[Place, ...]:
    """The places of all values of a line, in the order of its words."""
    if written.spots:
        return tuple(Place(entry.file, line, column) for line, column in written.spots)
    if not written.text:
        return tuple(Place(entry.file, written.line, written.column) for _ in written.words)
    places, start = [], written.column - 1
    for word in written.words:
        at = written.text.find(word, start)
        places.append(Place(entry.file, written.line, at + 1))
        start = at + len(word)
    return tuple(places)


def clip_value(text: str) -> str:
    """A value cut to 80 characters, for messages."""
    return text if len(text) <= 80 else text[:77] + "..."
