"""Attributes of pools behind the program of an inetd.conf: `/usr/sbin/in.fingerd;spawn=zygote;snapshot=first_io`.

No inetd has such a field; a program whose path has a `;` keeps it, unless an attribute and `=` come after it.
"""

from __future__ import annotations

import re
from typing import Any

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import clip_value
from fastinetd.config.inetd_lines import BadLine, Word
from fastinetd.config.model import Place
from fastinetd.config.settings import POOL_SETTINGS
from fastinetd.config.values import BadValue

_BEGINS = re.compile(r";[A-Za-z_]+=")
_KNOWN = " ".join(POOL_SETTINGS)


def split_pool(word: Word) -> tuple[Word, list[Word]]:
    """The program's path, and the `NAME=VALUE` pieces behind it, each with its place."""
    begins = _BEGINS.search(word.text)
    if begins is None:
        return word, []
    column = word.column + begins.start() + 1
    pieces = []
    for text in word.text[begins.start() + 1 :].split(";"):
        pieces.append(Word(text, word.line, column))
        column += len(text) + 1
    return word._replace(text=word.text[: begins.start()]), pieces


def take_pool(
    pieces: list[Word], file: str, service: str, values: dict[str, Any], places: dict[str, Place], report: Report
) -> None:
    """Add the attributes in `pieces` to `values` and `places` of a service. Raises BadLine for a bad value."""
    for piece in pieces:
        name, equals, text = piece.text.partition("=")
        setting = POOL_SETTINGS.get(name.lower())
        place = Place(file, piece.line, piece.column)
        if setting is None or not equals or setting.name in places:
            reason, remedy = "is no attribute of a pool", f"write one of: {_KNOWN}"
            if not equals:
                reason, remedy = "is not NAME=VALUE", "remove it, or write what it shall be"
            elif setting is not None:
                reason, remedy = "is already set", "remove one of the two"
            report.add("inetd-attribute", place, service=service, value=clip_value(name), reason=reason, remedy=remedy)
            continue
        word = piece._replace(text=text, column=piece.column + len(name) + 1)
        try:
            values[setting.name] = setting.parse([text])
        except BadValue as bad:
            raise BadLine(
                "bad-value", word, name=setting.name, value=clip_value(text), problem=bad.problem, syntax=setting.syntax
            ) from None
        places[setting.name] = Place(file, word.line, word.column)
