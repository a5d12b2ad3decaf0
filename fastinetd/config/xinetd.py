"""Reader of xinetd.conf: text in, entries out.

The grammar is line by line, as in xinetd: blank lines and lines whose first character is `#` are skipped; a
line `service NAME` or `defaults` is followed by `{` alone, attribute lines, and `}` alone; `include FILE` and
`includedir FOLDER` stand between blocks. Blanks and tabs separate words, a line may begin with form feeds; there is no
quoting. Names and keywords may be in any case.

An error in one block costs no other service, as it does in xinetd: after a missing `}` the reader goes on with
the next `service` line, after a stray line with the next line. It also takes CRLF line ends and operators
without a blank before them. Everything is reported, and a block with an error is marked broken, so that its
other lines can still be checked.

Every reload reads everything again, so the usual line costs a split, three look-ups and no regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import MOST_ENTRIES, Entries, Entry, Sources, Written, clip_value
from fastinetd.config.model import Place

OPERATORS = frozenset(("=", "+=", "-="))
KEYWORDS = frozenset(("service", "defaults", "include", "includedir"))
COMMENTS = ("//", "/*", ";", "--")
"""Beginnings of comments in other languages: reported, for here they begin nothing."""

_BRACKETS = ("(", "[", "<", "{{", "{;")
"""Words that are written for `{` by mistake."""
_CLOSING = (")", "]", ">", "}}", "};")
"""Words that are written for `}` by mistake."""

MOST_FAILED = 1000
"""Names that `Entry.failed` may hold: more than there are attributes, fewer than a file of rubbish has."""

_ODD_BLANK = re.compile(r"[^\S \t\n\r]")
"""Characters at which str.split splits and xinetd does not."""

Splitter = Callable[[str], list[str]]


def _split_strictly(line: str) -> list[str]:
    """The words of a line, split at blanks and tabs only.

    A carriage return at the end, and form feeds and vertical tabs at the beginning, are no part of them.
    """
    return [word for word in line.replace("\t", " ").rstrip("\r").lstrip(" \f\v").split(" ") if word]


def choose_splitter(text: str) -> Splitter:
    """The function that splits lines of `text` at blanks and tabs only: str.split, which is faster, if it does so."""
    return _split_strictly if _ODD_BLANK.search(text) else str.split


def read_xinetd(text: str, file: str, entries: Entries, sources: Sources, report: Report) -> None:
    """Append the blocks of `text` and of the files it includes to `entries`.

    `file` is the name for messages, `sources` reads included files. Errors go to `report`; nothing is raised.
    """
    split = choose_splitter(text)
    lines = text.split("\n")
    if "\0" in text:
        _void_lines_with_nul(lines, file, report)
    if report.differences:
        _tell_carriage_return(text, file, report)
    reader = _Reader(lines, split, file, report)
    seen_defaults = False
    stray = False  # a line that begins no entry has been reported: the lines after it, and their `}`, are not
    while (words := reader.next_words()) is not None:
        keyword = words[0].lower()
        place = reader.place_of(words[0])
        if keyword not in KEYWORDS and (words[0].startswith(COMMENTS) or stray):
            if words[0].startswith(COMMENTS):
                report.add("slash-comment", place, word=clip_value(words[0]))
            continue
        stray = False
        if keyword in KEYWORDS:
            reader.report_rest(words, 1 if keyword == "defaults" else 2)
        if keyword == "service":
            if len(entries.services) >= MOST_ENTRIES:
                report.add("too-many-entries", place, most=MOST_ENTRIES)
                return
            entry = reader.read_service(words, place)
            if entry is not None:
                entries.services.append(entry)
        elif keyword == "defaults":
            entry = Entry("", place)
            reader.read_block(entry, "defaults")
            if report.differences and entries.services and any(line.name in _LISTS for line in entry.lines):
                report.add("in-xinetd", place, what="these access lists do not hold for the services above")
            if seen_defaults:
                report.add("second-defaults", place)
            else:
                entries.defaults.append(entry)
            seen_defaults = True
        elif keyword in ("include", "includedir"):
            if len(words) < 2:
                report.add("no-path", place, keyword=keyword)
                continue
            path = reader.place_of(words[1], place.column - 1 + len(words[0]))
            for name, included in sources(keyword, words[1], path):
                read_xinetd(included, name, entries, sources, report)
        elif _is_brace("{", words):
            report.add("stray-open", place)
            reader.skip_block()
        elif words[0] == "}":
            report.add("stray-close", place)
        else:
            report.add("no-keyword", place, word=clip_value(words[0]))
            stray = True


_LISTS = ("only_from", "no_access")


def _tell_carriage_return(text: str, file: str, report: Report) -> None:
    """Report the first carriage return at the end of a line."""
    if (end := text.find("\r\n")) >= 0:
        place = Place(file, text.count("\n", 0, end) + 1, end - text.rfind("\n", 0, end))
        report.add("in-xinetd", place, what="a carriage return at the end of a line belongs to its last word")


_VOID = "\0"
"""Begins a line that has been reported and must not be used; no line that is used has a NUL."""


def _void_lines_with_nul(lines: list[str], file: str, report: Report) -> None:
    """Report and void the lines with a NUL byte, which no path, argument or variable can hold.

    What may be the name of an attribute stays, for it is not missing.
    """
    for index, line in enumerate(lines):
        if "\0" in line:
            report.add("nul-byte", Place(file, index + 1, line.index("\0") + 1))
            name = re.match(r"\s*(\w*)", line)
            lines[index] = f"{_VOID} {name[1]}" if name else _VOID


def _is_brace(brace: str, words: list[str]) -> bool:
    """Whether these are the words of a line with a brace, perhaps with a comment behind it."""
    return words[0] == brace and (len(words) == 1 or words[1][0] == "#")


class _Reader:
    """Reads the blocks of one file. `at` is the number of the line read last, counted from 1; 0 at the beginning."""

    __slots__ = ("_parted", "_tight", "at", "file", "lines", "report", "split")

    def __init__(self, lines: list[str], split: Splitter, file: str, report: Report) -> None:
        self.lines = lines
        self.split = split
        self.file = file
        self.report = report
        self.at = 0
        self._parted = 0  # the line reported to have no operator: one may begin the next line
        self._tight: Entry | None = None  # the entry whose first line without a blank before `=` was reported

    def place_of(self, word: str, start: int = 0) -> Place:
        """The place of `word` in the line read last, looked for from the index `start` on."""
        return Place(self.file, self.at, self.lines[self.at - 1].find(word, start) + 1)

    def next_words(self) -> list[str] | None:
        """The words of the next line that is neither blank nor a comment nor void; None at the end."""
        while self.at < len(self.lines):
            words = self.split(self.lines[self.at])
            self.at += 1
            if words and words[0][0] != "#" and words[0] != _VOID:
                return words
        return None

    def peek_words(self) -> list[str] | None:
        """What `next_words` would return; no line counts as read."""
        at = self.at
        words = self.next_words()
        self.at = at
        return words

    def skip_block(self) -> None:
        """Read up to and including the next `}`, or up to a header with a `{` behind it, which begins another block."""
        while (words := self.next_words()) is not None:
            if _is_brace("}", words):
                return
            if self._is_header(words):
                self.at -= 1
                return

    def _is_header(self, words: list[str]) -> bool:
        """Whether the line read last, with these words, begins a block: an attribute is not followed by `{`."""
        keyword = words[0].lower()
        return (
            keyword == "defaults" or (keyword == "service" and len(words) > 1 and words[1] not in OPERATORS)
        ) and _is_brace("{", self.peek_words() or [""])

    def read_service(self, words: list[str], place: Place) -> Entry | None:
        """The entry of the block after a `service` line with these words; None, which is reported, without a name."""
        if len(words) < 2 or (words[1] in ("{", *_BRACKETS) and not _is_brace("{", self.peek_words() or [""])):
            self.report.add("no-service-name", place)
            self.read_block(Entry("", place), "service")
            return None
        entry = Entry(words[1], place)
        self.read_block(entry, f"service {words[1]}")
        return entry

    def read_block(self, entry: Entry, header: str) -> None:
        """Read the block after a header and append its lines to `entry`; `header` is the entry's name in messages."""
        if not self._read_open_brace(entry, header):
            return
        # The usual line takes no call but split and find: a reload may read a hundred thousand of them.
        lines, split, total = self.lines, self.split, len(self.lines)
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
            else:
                self.at = at
                if self._ends_block(entry, header, line, words):
                    return
                tight = None if entry.disabled or name == _VOID else self._split_tight(entry, line)
                if tight is None:
                    continue
                name, operator, values, column = tight
            if entry.disabled:
                continue
            if name == "disable" and _is_yes(values) and not any(known.name == "disable" for known in entry.lines):
                entry.disabled = True
                self._report_comment(entry, at, values)
            recorded(Written(name, operator, values, at, column, line))
        self.at = at
        self._report_open(entry, header, Place(self.file, max(total - (not lines[-1]), 1)))

    def _read_open_brace(self, entry: Entry, header: str) -> bool:
        """Read the `{` after a header. One that is missing is reported; False when no block follows either."""
        opening = self.peek_words()
        if opening is not None and _is_brace("{", opening):
            self._report_text_behind(self.next_words() or opening)
            return True
        self.report.add("no-open-brace", entry.place, entry=clip_value(header))
        entry.broken = True
        inline = self.split(self.lines[self.at - 1])[-1] in ("{", *_BRACKETS)
        if opening is not None and (" ".join(opening) in _BRACKETS or self._is_wrong_open(opening)):
            self.next_words()
            return True
        return inline or (opening is not None and "=" in "".join(opening))

    def _is_wrong_open(self, words: list[str]) -> bool:
        """Whether the next line, with these words, is in the place of a `{`: what follows it belongs in a block."""
        if "=" in "".join(words) or words[0].lower() in KEYWORDS:
            return False
        at = self.at
        self.next_words()
        after = self.peek_words()
        self.at = at
        return after is not None and ("=" in "".join(after) or _is_brace("}", after))

    def _is_wrong_close(self, words: list[str]) -> bool:
        """Whether the line read last, with these words, is in the place of a `}`: an entry, or the end, follows it."""
        if "=" in "".join(words) or (len(words) > 1 and words[0] != "}"):
            return False
        after = self.peek_words()
        return after is None or (after[0].lower() in KEYWORDS and "=" not in "".join(after))

    def _ends_block(self, entry: Entry, header: str, line: str, words: list[str]) -> bool:
        """Whether the line read last ends the block: any line but an attribute with blanks around its operator.

        An end that is not a `}` is reported.
        """
        name = words[0]
        if _is_brace("}", words):
            self._report_text_behind(words)
            return True
        if name == "}" and words[1].lower() in KEYWORDS:
            self.report.add("entry-after-brace", self.place_of(words[1]))
            self.lines[self.at - 1] = line.replace("}", " ", 1)
            self.at -= 1
            return True
        if name == _VOID:
            entry.broken = True
            entry.failed.update(word.lower() for word in words[1:])
            return False
        if "=" not in line and self._is_header(words):
            self._report_open(entry, header)
            self.at -= 1
            return True
        if words == ["{"] or (name in _CLOSING and len(words) == 1) or self._is_wrong_close(words):
            self._report_wrong_brace(entry, header, name)
            return True
        return False

    def report_rest(self, words: list[str], wanted: int) -> None:
        """Report what is behind the first words of a header or an include line; a brace has a message of its own."""
        rest = words[wanted:]
        if not rest or rest[0][0] == "#" or not {"{", *_BRACKETS}.isdisjoint(rest):
            return
        start = 0
        for word in words[:wanted]:  # word after word, for a word may occur within one before it
            start = self.lines[self.at - 1].find(word, start) + len(word)
        self.report.add("words-behind", self.place_of(rest[0], start), word=clip_value(rest[0]))

    def _report_text_behind(self, words: list[str]) -> None:
        """Report a comment behind the brace that the line read last has."""
        if len(words) > 1:
            self.report.add("text-after-brace", self.place_of(words[1]), brace=words[0])

    def _report_comment(self, entry: Entry, line: int, values: list[str]) -> None:
        """Report a comment behind `disable = yes` in a line: of a disabled block no more is interpreted."""
        if len(values) > 1:
            place = Place(self.file, line, self.lines[line - 1].index("#") + 1)
            self.report.add("trailing-comment", place, service=entry.name, name="disable", value=values[0])

    def _report_open(self, entry: Entry, header: str, end: Place | None = None) -> None:
        """Report a block that is not closed before the header read last, or before the `end` of the file."""
        entry.broken = True
        last = entry.lines[-1] if entry.lines else None
        if last is not None and last.words[-1:] == ["}"]:  # the brace is behind the last value
            place = Place(self.file, last.line, last.text.rindex("}") + 1)
            self.report.add("close-in-line", place, entry=clip_value(header))
            last.words.pop()
            return
        place = end or self.place_of(self.lines[self.at - 1].split()[0])
        self.report.add("no-close-brace", place, entry=clip_value(header), line=entry.place.line)

    def _report_wrong_brace(self, entry: Entry, header: str, brace: str) -> None:
        """Report a word that can only be a misspelt `}` of the block, or the `{` of another block without a header."""
        if brace == "{":
            self.report.add("stray-open", self.place_of(brace))
            self.skip_block()
        elif not entry.broken:  # else the `{` was misspelt too: one report of the two is enough
            self.report.add("no-close-brace", self.place_of(brace), entry=clip_value(header), line=entry.place.line)
        entry.broken = True

    def _split_tight(self, entry: Entry, line: str) -> tuple[str, str, list[str], int] | None:
        """Name, operator, values and column of an attribute line without blanks around its operator.

        None when the line is none; why is reported.
        """
        before, equals, after = line.partition("=")
        operator = "="
        if equals and before[-1:] in ("+", "-"):
            operator = before[-1] + "="
            before = before[:-1]
        names = self.split(before)
        if names and names[0].startswith(COMMENTS):
            place, word = self.place_of(names[0]), clip_value(names[0])
            self.report.add("slash-comment", place, service=entry.name or None, word=word)
            entry.broken = True
            name = " ".join(names).lstrip("/*;- ").partition(" ")[0]
            entry.failed.add(name.lower())  # whatever it would have set is not missing
            return None
        if not equals and names[0].lower() in ("include", "includedir"):
            self.report.add("include-in-block", self.place_of(names[0]), service=entry.name or None, keyword=names[0])
            entry.broken = True
            return None
        if not equals or len(names) > 1:
            place, name = self.place_of(names[0]), clip_value(names[0])
            self.report.add("no-operator", place, service=entry.name or None, name=name)
            if len(entry.failed) < MOST_FAILED:
                entry.failed.add(names[0].lower())
            entry.broken = True
            self._parted = self.at if len(names) == 1 else 0
            return None
        if not names:
            if self._parted != self.at - 1:
                self.report.add("no-attribute", self.place_of(operator), service=entry.name or None, operator=operator)
            entry.broken = True
            return None
        if self.report.differences and entry is not self._tight:
            self._tight = entry  # once is enough
            column = line.index("=") + 2 - len(operator)
            self.report.add("in-xinetd", Place(self.file, self.at, column), service=entry.name or None,
                            what=f"`{operator}` without a blank before it drops the service")
        values = self.split(after)
        start = len(line) - len(after)
        column = line.find(values[0], start) + 1 if values else len(line.rstrip()) + 1
        return names[0].lower(), operator, values, column


def _is_yes(values: list[str]) -> bool:
    """Whether the words after an operator are `yes`, perhaps with a comment behind it."""
    return bool(values) and values[0].lower() == "yes" and (len(values) == 1 or values[1][0] == "#")
