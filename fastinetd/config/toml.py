"""Reader of the native file: TOML with the attribute names of xinetd.conf.

`[defaults]` and `[service.NAME]` hold attributes; `include` and `includedir` at the top name further TOML
files. A value may be a string, an integer, a float, a boolean (yes or no) or a list. A string is parted at
blanks as in xinetd.conf; the items of a list are taken as they are, blanks and all. `env` may also be a
table.

Everything becomes the same written lines as in xinetd.conf, so the same table and the same checks apply. The
parser of the standard library gives no places, so keys are looked for in the text by line: a place may be off
inside an exotic layout, a value never is.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from fastinetd.config.build import build
from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import MOST_ENTRIES, Entries, Entry, Sources, Written, shown
from fastinetd.config.model import Config, Place
from fastinetd.config.settings import SETTINGS

_WHERE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=\s*""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"([^"]*)"|'([^']*)'""")

MOST_PARTS = 32
"""Parts of a dotted key: the parser's time grows with their square, and none of ours has more than three."""

_LONG_KEY = re.compile(rf"""(?<![\w"'-])(?:[\w"'-]++\s*+\.\s*+){{{MOST_PARTS}}}""")

MOST_LINES = 100_000
"""Lines that a list of values may have, when the places of its values are looked for."""

_Keys = dict[tuple[str, ...], tuple[int, int]]


def read(text: str, file: str, sources: Sources, report: Report) -> Config:
    """The services of a TOML file and of those it includes."""
    entries = Entries()
    sound = _read(text, file, entries, sources, report)
    config = build(entries, file, report, toml=True)
    return config if sound else Config(file, (), fatal=True)


def _read(text: str, file: str, entries: Entries, sources: Sources, report: Report) -> bool:
    """Append the entries of `text`; False when it or an included file is not TOML."""
    document = _parsed(text, file, report)
    if document is None:
        return False
    lines = text.split("\n")
    keys = _keys(lines)
    sound = True

    def place(*path: str) -> Place:
        """Where a key's value stands; where its table begins, when it is not found."""
        while path and path not in keys:
            path = path[:-1]
        return Place(file, *keys.get(path, (1, 1)))

    def block(name: str, table: dict[str, Any], *path: str) -> Entry:
        entry = Entry(name, place(*path))
        if name and table.get("disable") is True:
            entry.disabled = True
            table = {key: value for key, value in table.items() if key == "id"}
        for key, value in table.items():
            at = place(*path, key)
            words = _words(key, value)
            if words is None:
                known = SETTINGS.get(key.lower())
                report.add(
                    "toml-type",
                    at,
                    service=name or None,
                    name=shown(key),
                    kind=_kind(value),
                    syntax=known.asked(toml=True) if known else "a string, a number, true, false or a list",
                )
                entry.failed.add(key.lower())
                entry.broken = True
            else:
                spots = _spots(lines, at, words) if isinstance(value, list | str) else ()
                entry.lines.append(Written(key.lower(), "=", words, at.line, at.column, "", spots))
        return entry

    for key, value in document.items():
        if key == "defaults" and isinstance(value, dict):
            entries.defaults.append(block("", value, key))
        elif key == "service" and isinstance(value, dict):
            for name, table in value.items():
                if len(entries.services) >= MOST_ENTRIES:
                    report.add("too-many-entries", place(key, name), most=MOST_ENTRIES)
                    break
                if isinstance(table, dict) and name and not name.isspace():
                    entries.services.append(block(name, table, key, name))
                else:
                    kind, syntax = _kind(table), "a table [service.NAME]"
                    report.add("toml-type", place(key, name), name=f"service.{shown(name)}", kind=kind, syntax=syntax)
        elif key in ("include", "includedir") and _is_paths(value):
            for path in [value] if isinstance(value, str) else value:
                for included, content in sources(key, path, place(key)):
                    sound &= _read(content, included, entries, sources, report)
        elif key in ("defaults", "service", "include", "includedir"):
            report.add(
                "toml-type",
                place(key),
                name=key,
                kind=_kind(value),
                syntax="a path or a list of paths" if key.startswith("include") else f"a table [{key}]",
            )
        else:
            report.add("toml-table", place(key), name=shown(key))
    return sound


def _parsed(text: str, file: str, report: Report) -> dict[str, Any] | None:
    """What the parser makes of a text; None when that is not TOML, which is reported."""
    if long := _LONG_KEY.search(text):
        report.add("toml-syntax", _place(text, long.start(), file), reason=f"a key of more than {MOST_PARTS} parts")
        return None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # the former is what TOMLDecodeError is; also absurd numbers
        reason, fault = _fault(str(error) or "values are nested too deeply", text, file)
        report.add("toml-syntax", fault, reason=reason)
        return None


def _place(text: str, at: int, file: str) -> Place:
    """Where this character is."""
    return Place(file, text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


def _is_paths(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _fault(message: str, text: str, file: str) -> tuple[str, Place]:
    """What tomllib complains of, and where."""
    match = _WHERE.search(message)
    if match is None:
        return message, Place(file, 1)
    reason = message[: match.start()]
    if match[1]:
        return reason, Place(file, int(match[1]), int(match[2]))
    lines = text.rstrip("\n").split("\n")
    return f"{reason} at the end", Place(file, len(lines), len(lines[-1]) + 1)


def _words(key: str, value: object) -> list[str] | None:
    """A value as the words of a line; None when it is of no use as a value."""
    if isinstance(value, str):
        return None if "\0" in value else value.split()
    if isinstance(value, list):
        words = []
        for item in value:
            word = _word(item)
            if word is None:
                return None
            words.append(word)
        return words
    if isinstance(value, dict) and key.lower() == "env":
        pairs = {name: _word(item) for name, item in value.items()}
        return None if None in pairs.values() else [f"{name}={item}" for name, item in pairs.items()]
    word = _word(value)
    return None if word is None else [word]


def _word(value: object) -> str | None:
    if isinstance(value, str):
        return None if "\0" in value else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    return None


def _kind(value: object) -> str:
    """The TOML type of a value, for messages."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list that holds lists, tables or dates"
    if isinstance(value, str):
        return "a string with a NUL character" if "\0" in value else "a string"
    if isinstance(value, bool | int | float):
        return "a number or boolean"
    return "a date or time"


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(match[1] or match[2] or match[0].strip("\"'") for match in _PART.finditer(dotted))


def _spots(lines: list[str], at: Place, words: list[str]) -> tuple[tuple[int, int], ...]:
    """Line and column of each of the words of the value that begins at `at`; () when they are not written there as
    they are read (escapes, numbers in bases)."""
    found = []
    number, column = at.line - 1, at.column - 1
    for word in words:
        while (column := lines[number].find(word, column)) < 0:
            number, column = number + 1, 0
            if number == len(lines) or number - at.line > MOST_LINES or _KEY.match(lines[number]):
                return ()
        quoted = column > 0 and lines[number][column - 1] in "\"'"
        found.append((number + 1, column + 1 - quoted))
        column += len(word)
    return tuple(found)


def _keys(lines: list[str]) -> _Keys:
    """Tables and keys -> line and column (of the value, for a key). The first of a name counts; a table that has no
    header of its own is where its first part is."""
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
            table = _parts(header[1])
            note(table, number, line.index("[") + 1)
            continue
        key = _KEY.match(line)
        if key:
            note((*table, *_parts(key[1])), number, key.end() + 1)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2:
                inside = quotes
    return found
