"""Reader of the native file: TOML with the attribute names of xinetd.conf.

`[defaults]` and `[service.NAME]` hold attributes; `include` and `includedir` at the top name further TOML
files. A value may be a string, an integer, a float, a boolean (yes or no) or a list. A string is split at
blanks as in xinetd.conf; the items of a list are taken as they are, blanks and all. `env` may also be a
table.

Everything becomes the same written lines as in xinetd.conf, so the same table and the same checks apply. The
parser of the standard library gives no places, so keys are looked for in the text by line: a place may be wrong
inside an exotic layout, a value never is.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from fastinetd.config.build import build_config
from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import MOST_ENTRIES, Entries, Entry, Sources, Written, clip_value
from fastinetd.config.model import Config, Place
from fastinetd.config.settings import SETTINGS

_WHERE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=\s*""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"([^"]*)"|'([^']*)'""")

MOST_PARTS = 32
"""Parts that a dotted key may have: tomllib's time grows with their square, and no key of ours has more than three."""

_LONG_KEY = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++\s*+\.\s*+){{{MOST_PARTS}}}""")

MOST_LINES = 100_000
"""Lines of a list of values in which the places of its values are looked for."""

_Keys = dict[tuple[str, ...], tuple[int, int]]
"""Tables and keys, as the parts of their dotted names -> line and column."""


def read_toml(text: str, file: str, sources: Sources, report: Report) -> Config:
    """The services of a TOML file and of the files it includes; `Config.fatal` if one of these is not TOML.

    `file` is the name for messages, `sources` reads included files. Errors go to `report`; nothing is raised.
    """
    entries = Entries()
    sound = _read_file(text, file, entries, sources, report)
    config = build_config(entries, file, report, toml=True)
    return config if sound else Config(file, (), fatal=True)


def _read_file(text: str, file: str, entries: Entries, sources: Sources, report: Report) -> bool:
    """Append the blocks of `text` and of the files it includes to `entries`; False when one of them is not TOML."""
    document = _parse_document(text, file, report)
    if document is None:
        return False
    reader = _Reader(text, file, entries, report)
    sound = True
    for key, value in document.items():
        if key == "defaults" and isinstance(value, dict):
            entries.defaults.append(reader.make_entry("", value, key))
        elif key == "service" and isinstance(value, dict):
            reader.take_services(value)
        elif key in ("include", "includedir") and _is_paths(value):
            place = reader.place_of(key)
            for path in [value] if isinstance(value, str) else value:
                for included, content in sources(key, path, place):
                    sound &= _read_file(content, included, entries, sources, report)
        elif key in ("defaults", "service", "include", "includedir"):
            syntax = "a path or a list of paths" if key.startswith("include") else f"a table [{key}]"
            report.add("toml-type", reader.place_of(key), name=key, kind=_describe_type(value), syntax=syntax)
        else:
            report.add("toml-table", reader.place_of(key), name=clip_value(key))
    return sound


class _Reader:
    """Turns the tables of one file into entries."""

    def __init__(self, text: str, file: str, entries: Entries, report: Report) -> None:
        self.file = file
        self.lines = text.split("\n")
        self.keys = _locate_keys(self.lines)
        self.entries = entries
        self.report = report

    def place_of(self, *path: str) -> Place:
        """The place of a key's value; of the table around the key when the key is not found in the text."""
        while path and path not in self.keys:
            path = path[:-1]
        return Place(self.file, *self.keys.get(path, (1, 1)))

    def take_services(self, tables: dict[str, Any]) -> None:
        """Append an entry for each [service.NAME]."""
        for name, table in tables.items():
            place = self.place_of("service", name)
            if len(self.entries.services) >= MOST_ENTRIES:
                self.report.add("too-many-entries", place, most=MOST_ENTRIES)
                break
            if isinstance(table, dict) and name and not name.isspace():
                self.entries.services.append(self.make_entry(name, table, "service", name))
            else:
                kind = "a table without a name" if isinstance(table, dict) else _describe_type(table)
                syntax = "a table [service.NAME]"
                self.report.add("toml-type", place, name=f"service.{clip_value(name)}", kind=kind, syntax=syntax)

    def make_entry(self, name: str, table: dict[str, Any], *path: str) -> Entry:
        """The entry of the table at `path`; `name` is the service's, "" for `defaults`."""
        entry = Entry(name, self.place_of(*path))
        if name and table.get("disable") is True:
            entry.disabled = True
            table = {key: value for key, value in table.items() if key == "id"}
        for key, value in table.items():
            self._take_value(entry, key, value, self.place_of(*path, key))
        return entry

    def _take_value(self, entry: Entry, key: str, value: object, place: Place) -> None:
        """Append the line that xinetd.conf would have for this key and value, or report a value that none could say."""
        words = _words_of(key, value)
        if words is not None:
            spots = _locate_words(self.lines, place, words) if isinstance(value, list | str) else ()
            entry.lines.append(Written(key.lower(), "=", words, place.line, place.column, "", spots))
            return
        setting = SETTINGS.get(key.lower())
        syntax = setting.syntax_in(toml=True) if setting else "a string, a number, true, false or a list"
        name, kind = clip_value(key), _describe_type(value)
        self.report.add("toml-type", place, service=entry.name or None, name=name, kind=kind, syntax=syntax)
        entry.failed.add(key.lower())
        entry.broken = True


def _parse_document(text: str, file: str, report: Report) -> dict[str, Any] | None:
    """The tables and values of a text; None, which is reported, when it is not TOML."""
    if long := _LONG_KEY.search(text):
        report.add("toml-syntax", _place_at(text, long.start(), file), reason=f"a key of more than {MOST_PARTS} parts")
        return None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError; so is a number of 5,000 digits
        reason, fault = _split_fault(str(error) or "values are nested too deeply", text, file)
        report.add("toml-syntax", fault, reason=reason)
        return None


def _place_at(text: str, at: int, file: str) -> Place:
    """The place of the character with the index `at`."""
    return Place(file, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def _is_paths(value: object) -> bool:
    """Whether a value is a string or a list of strings."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _split_fault(message: str, text: str, file: str) -> tuple[str, Place]:
    """An error message of tomllib as reason and place."""
    match = _WHERE.search(message)
    if match is None:
        return message, Place(file, 1)
    reason = message[: match.start()]
    if match[1]:
        return reason, Place(file, int(match[1]), int(match[2]))
    lines = text.rstrip("\n").split("\n")
    return f"{reason} at the end", Place(file, len(lines), len(lines[-1]) + 1)


def _words_of(key: str, value: object) -> list[str] | None:
    """A value as the words of a line; None when no attribute can have such a value."""
    if isinstance(value, str):
        return None if "\0" in value else value.split()
    if isinstance(value, list):
        words = []
        for item in value:
            word = _word_of(item)
            if word is None:
                return None
            words.append(word)
        return words
    if isinstance(value, dict) and key.lower() == "env":
        pairs = {name: _word_of(item) for name, item in value.items()}
        return None if None in pairs.values() else [f"{name}={item}" for name, item in pairs.items()]
    word = _word_of(value)
    return None if word is None else [word]


def _word_of(value: object) -> str | None:
    """A single value as a word; None for a list, a table, a date or a string with a NUL."""
    if isinstance(value, str):
        return None if "\0" in value else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    return None


def _describe_type(value: object) -> str:
    """The TOML type of a value, for messages."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        strange = next((item for item in value if _word_of(item) is None), 0)
        return f"a list that holds {'a list' if isinstance(strange, list) else _describe_type(strange)}"
    if isinstance(value, str):
        return "a string with a NUL character" if "\0" in value else "a string"
    if isinstance(value, bool | int | float):
        return "a number or boolean"
    return "a date or time"


def _split_key(dotted: str) -> tuple[str, ...]:
    """The parts of a dotted key without their quotes."""
    return tuple(match[1] or match[2] or match[0].strip("\"'") for match in _PART.finditer(dotted))


def _locate_words(lines: list[str], at: Place, words: list[str]) -> tuple[tuple[int, int], ...]:
    """Line and column of each word of the value that begins at `at`.

    () when a word is not written there as it is read: escapes, numbers in other bases.
    """
    found = []
    number, column = at.line - 1, at.column - 1
    for word in words:
        while (column := lines[number].find(word, column)) < 0:
            number, column = number + 1, 0
            if number == len(lines) or number - at.line > MOST_LINES or _KEY.match(lines[number]):
                return ()
        quoted = column > 0 and lines[number][column - 1] in "\"'"  # then the place is that of the quote
        found.append((number + 1, column + 1 - quoted))
        column += len(word)
    return tuple(found)


def _locate_keys(lines: list[str]) -> _Keys:
    """Tables and keys -> line and column, for a key those of its value.

    Of several with one name the first counts. A table without a header of its own, as [a] beside [a.b], has the place
    of the first table inside it.
    """
    found: _Keys = {}
    table: tuple[str, ...] = ()
    inside = ""  # the quotes of a string that goes over several lines

    def note(path: tuple[str, ...], line: int, column: int) -> None:
        for length in range(1, len(path) + 1):
            found.setdefault(path[:length], (line, column))

    for number, line in enumerate(lines, 1):
        if inside:
            if line.count(inside) % 2:
                inside = ""
            continue
        header = _HEADER.match(line)
        if header:
            table = _split_key(header[1])
            note(table, number, line.index("[") + 1)
            continue
        key = _KEY.match(line)
        if key:
            note((*table, *_split_key(key[1])), number, key.end() + 1)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2:
                inside = quotes
    return found
