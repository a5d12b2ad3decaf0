"""The lines of an inetd.conf: comments left out, continued lines joined, words with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from fastinetd.config.diagnostics import Report
from fastinetd.config.dialects import Dialect
from fastinetd.config.model import Place

_QUOTED = re.compile(r"""[^\s"'][^\s]*|"([^"]*)"|'([^']*)'|["']""")
_BARE = re.compile(r"[^ \t\r]+")


class Word(NamedTuple):
    """A word of an inetd.conf, with line and column, both counted from 1."""

    text: str
    line: int
    column: int


class BadLine(Exception):
    """Raised for a line that cannot be served: code of the diagnostic, word at fault, values of the text."""

    def __init__(self, code: str, word: Word, **values: object) -> None:
        super().__init__(code)
        self.code, self.word, self.values = code, word, cast(dict[str, Any], values)


def logical_lines(text: str, file: str, rules: Dialect, report: Report) -> Iterator[list[Word]]:
    """The words of each logical line: continued lines are joined, comments left out. Errors go to `report`."""
    gathered: list[Word] = []
    joined = False  # the line before ended in a backslash
    for line, raw in enumerate(text.split("\n"), 1):
        if "\0" in raw:
            report.add("nul-byte", Place(file, line, raw.index("\0") + 1))
            raw = ""  # no path or argument can hold a NUL
        hash_at = raw.find("#") if rules.comment_anywhere else 0 if raw.startswith("#") else -1
        if raw.startswith("#@") and rules.policies:
            report.add("inetd-policy", Place(file, line))
        content = raw if hash_at < 0 else raw[:hash_at]
        continues = rules.backslash and content.rstrip("\r").endswith("\\")
        if continues:
            content = content.rstrip("\r")[:-1]
        try:
            words = _split_words(content, line, rules)
        except BadLine as bad:
            report.add(bad.code, Place(file, line, bad.word.column), service=None, **bad.values)
            words = []
        if joined or (rules.indented and gathered and raw[:1] in (" ", "\t")):
            gathered += words
        else:
            if gathered:
                yield gathered
            gathered = words
        joined = continues
    if gathered:
        yield gathered


def _split_words(content: str, line: int, rules: Dialect) -> list[Word]:
    """The words of a line without its comment; where the dialect has quotes, without them. Raises BadLine."""
    if not rules.quotes or ('"' not in content and "'" not in content):
        return [Word(match.group(), line, match.start() + 1) for match in _BARE.finditer(content)]
    found = []
    for match in _QUOTED.finditer(content):
        whole = match.group()
        if whole in ('"', "'"):
            raise BadLine("inetd-quote", Word(whole, line, match.start() + 1), value=whole)
        quoted = whole[0] in "\"'"
        found.append(Word(whole[1:-1] if quoted else whole, line, match.start() + 1))
    return found
