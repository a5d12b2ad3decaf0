"""Reader of xinetd.conf: text in, entries out.

The grammar is line by line, as in xinetd: blank lines and lines whose first character is `#` are skipped; a
line `service NAME` or `defaults` is followed by `{` alone, attribute lines, and `}` alone; `include FILE` and
`includedir FOLDER` stand between blocks. Words are parted by blanks and tabs; there is no quoting. Names and
keywords may be in any case.

Where xinetd loses services of others by an error, this reader does not: after a missing `}` it goes on with
the next `service` line, after a stray line with the next line. It also takes CRLF line ends and operators
without a blank before them. Everything is reported, and a block with an error is marked broken, so that its
other lines can still be checked.

Every reload reads everything again, so the usual line costs two splits and three look-ups and no regular
expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import MOST_ENTRIES, Entries, Entry, Sources, Written, shown
from fastinetd.config.model import Place

OPERATORS = frozenset(("=", "+=", "-="))
KEYWORDS = frozenset(("service", "defaults", "include", "includedir"))
COMMENTS = ("//", "/*", ";", "--")
"""What begins a comment elsewhere, and nothing here."""

_BRACKETS = ("(", "[", "<", "{{", "{;")
"""What is written for `{` by mistake."""
_CLOSING = (")", "]", ">", "}}", "};")
"""And for `}`."""

MOST_FAILED = 1000
"""Names of attributes with an error that an entry remembers; there are not so many attributes."""

_ODD_BLANK = re.compile(r"[^\S \t\n\r]")
"""Characters that Python, but not xinetd, takes for blanks."""

Splitter = Callable[[str], list[str]]


def _split_strictly(line: str) -> list[str]:
    return [word for word in line.replace("\t", " ").rstrip("\r").split(" ") if word]


def splitter(text: str) -> Splitter:
    """The function that parts lines of `text` at blanks and tabs only: str.split where it does the same,
    being faster."""
    return _split_strictly if _ODD_BLANK.search(text) else str.split


def read(text: str, file: str, entries: Entries, sources: Sources, report: Report) -> None:
    """Append the blocks of `text`, named `file` in messages, and of the files it includes, to `entries`."""
    split = splitter(text)
    lines = text.split("\n")
    if "\0" in text:
        _void_lines_with_nul(lines, file, report)
    reader = _Reader(lines, split, file, report)
    seen_defaults = False
    stray = False  # a line that begins no entry has been reported: of those that follow it, and their `}`, nothing is
    while (words := reader.next_words()) is not None:
        keyword = words[0].lower()
        place = reader.place(words[0])
        if keyword not in KEYWORDS and (words[0].startswith(COMMENTS) or stray):
            if words[0].startswith(COMMENTS):
                report.add("slash-comment", place, word=shown(words[0]))
            continue
        stray = False
        if keyword == "service":
            if len(entries.services) >= MOST_ENTRIES:
                report.add("too-many-entries", place, most=MOST_ENTRIES)
                return
            if len(words) < 2 or (words[1] in ("{", *_BRACKETS) and reader.peek() != ["{"]):
                report.add("no-service-name", place)
                reader.read_block(Entry("", place), "service")
            else:
                entry = Entry(words[1], place)
                reader.read_block(entry, f"service {words[1]}")
                entries.services.append(entry)
        elif keyword == "defaults":
            entry = Entry("", place)
            reader.read_block(entry, "defaults")
            if seen_defaults:
                report.add("second-defaults", place)
            else:
                entries.defaults.append(entry)
            seen_defaults = True
        elif keyword in ("include", "includedir"):
            if len(words) < 2:
                report.add("no-path", place, keyword=keyword)
                continue
            at = reader.lines[reader.at - 1].find(words[1], place.column - 1 + len(words[0])) + 1
            for name, included in sources(keyword, words[1], Place(file, reader.at, at)):
                read(included, name, entries, sources, report)
        elif words == ["{"]:
            report.add("stray-open", place)
            reader.skip_block()
        elif words[0] == "}":
            report.add("stray-close", place)
        else:
            report.add("no-keyword", place, word=shown(words[0]))
            stray = True


_VOID = "\0"
"""Stands for a line that has been reported and must not be used."""


def _void_lines_with_nul(lines: list[str], file: str, report: Report) -> None:
    """No path, argument or variable can hold a NUL byte, so a line with one says nothing that could be meant."""
    for index, line in enumerate(lines):
        if "\0" in line:
            report.add("nul-byte", Place(file, index + 1, line.index("\0") + 1))
            lines[index] = _VOID


class _Reader:
    """The lines of one file and the place in them. `at` counts the lines taken, so it is the number of the
    last one."""

    __slots__ = ("at", "file", "lines", "report", "split")

    def __init__(self, lines: list[str], split: Splitter, file: str, report: Report) -> None:
        self.lines = lines
        self.split = split
        self.file = file
        self.report = report
        self.at = 0

    def place(self, word: str, start: int = 0) -> Place:
        """The place of `word` in the line taken last."""
        return Place(self.file, self.at, self.lines[self.at - 1].find(word, start) + 1)

    def next_words(self) -> list[str] | None:
        """Take lines up to the next one that says something, and return its words; None at the end."""
        while self.at < len(self.lines):
            words = self.split(self.lines[self.at])
            self.at += 1
            if words and words[0][0] != "#" and words[0] != _VOID:
                return words
        return None

    def peek(self) -> list[str] | None:
        at = self.at
        words = self.next_words()
        self.at = at
        return words

    def skip_block(self) -> None:
        """Take lines up to and including the next `}`; a header with `{` after it ends the block too."""
        while (words := self.next_words()) is not None:
            if words == ["}"]:
                return
            if self._is_header(words):
                self.at -= 1
                return

    def _is_header(self, words: list[str]) -> bool:
        """Whether the line taken last begins a new block: nothing else can be meant where `{` follows."""
        keyword = words[0].lower()
        return (
            keyword == "defaults" or (keyword == "service" and len(words) > 1 and words[1] not in OPERATORS)
        ) and self.peek() == ["{"]

    def read_block(self, entry: Entry, header: str) -> None:
        """Take the block after a header; its lines go into `entry`."""
        opening = self.peek()
        if opening == ["{"]:
            self.next_words()
        else:
            self.report.add("no-open-brace", entry.place, entry=shown(header))
            entry.broken = True
            inline = self.split(self.lines[self.at - 1])[-1] in ("{", *_BRACKETS)
            if opening is not None and " ".join(opening) in _BRACKETS:
                self.next_words()
            elif not inline and (opening is None or "=" not in "".join(opening)):
                return  # nothing that could be the block follows
        lines, split, file, total = self.lines, self.split, self.file, len(self.lines)
        recorded = entry.lines.append
        at = self.at
        while at < total:
            line = lines[at]
            at += 1
            words = split(line)
            if not words:
                continue
            name = words[0]
            if name[0] == "#":
                continue
            if len(words) > 1 and words[1] in OPERATORS:
                name = name.lower()
                operator = words[1]
                values = words[2:]
                column = line.find(values[0], line.find("=") + 1) + 1 if values else len(line.rstrip()) + 1
            elif name == "}" and (len(words) == 1 or words[1][0] == "#"):
                self.at = at
                if len(words) > 1:
                    self.report.add("text-after-brace", self.place(words[1]))
                return
            elif name == _VOID:
                entry.broken = True
                continue
            else:
                self.at = at
                if "=" not in line and self._is_header(words):
                    self._say_open(entry, header)
                    self.at = at - 1
                    return
                if words == ["{"] or (name in _CLOSING and len(words) == 1):
                    self._say_wrong_brace(entry, header, name)
                    return
                tight = None if entry.disabled else self._tight(entry, line)
                if tight is None:
                    continue
                name, operator, values, column = tight
            if entry.disabled:
                continue
            if (
                name == "disable"
                and values
                and values[0].lower() == "yes"
                and (len(values) == 1 or values[1][0] == "#")
                and not any(written.name == "disable" for written in entry.lines)
            ):
                entry.disabled = True
            recorded(Written(name, operator, values, at, column, line))
        self.at = at
        self._say_open(entry, header, Place(file, max(total - (not lines[-1]), 1)))

    def _say_open(self, entry: Entry, header: str, end: Place | None = None) -> None:
        """Report a block that is not closed before the header taken last, or the `end` of the file."""
        entry.broken = True
        last = entry.lines[-1] if entry.lines else None
        if last is not None and last.words[-1:] == ["}"]:  # it was closed, behind the last value
            place = Place(self.file, last.line, last.text.rindex("}") + 1)
            self.report.add("close-in-line", place, entry=shown(header))
            last.words.pop()
            return
        place = end or self.place(self.lines[self.at - 1].split()[0])
        self.report.add("no-close-brace", place, entry=shown(header), line=entry.place.line)

    def _say_wrong_brace(self, entry: Entry, header: str, brace: str) -> None:
        """Report a brace in a block that can only be its end, or the beginning of another one without a header."""
        if brace == "{":
            self.report.add("stray-open", self.place(brace))
            self.skip_block()
        elif not entry.broken:  # else the block began with a wrong one, too
            self.report.add("no-close-brace", self.place(brace), entry=shown(header), line=entry.place.line)
        entry.broken = True

    def _tight(self, entry: Entry, line: str) -> tuple[str, str, list[str], int] | None:
        """An attribute line without blanks around its operator, or the report of what is wrong with it."""
        before, equals, after = line.partition("=")
        operator = "="
        if equals and before[-1:] in ("+", "-"):
            operator = before[-1] + "="
            before = before[:-1]
        names = self.split(before)
        if names and names[0].startswith(COMMENTS):
            self.report.add("slash-comment", self.place(names[0]), service=entry.name or None, word=shown(names[0]))
            entry.broken = True
            return None
        if not equals or len(names) > 1:
            self.report.add("no-operator", self.place(names[0]), service=entry.name or None, name=shown(names[0]))
            if len(entry.failed) < MOST_FAILED:
                entry.failed.add(names[0].lower())
            entry.broken = True
            return None
        if not names:
            self.report.add("no-attribute", self.place(operator), service=entry.name or None, operator=operator)
            entry.broken = True
            return None
        values = self.split(after)
        start = len(line) - len(after)
        column = line.find(values[0], start) + 1 if values else len(line.rstrip()) + 1
        return names[0].lower(), operator, values, column
