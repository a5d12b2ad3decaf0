"""An array's size that a constant names is that constant: as a number it would not be raised with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.sources import sources_of

CONSTANT = re.compile(r"^(?:#define (\w+)|    ([A-Z]\w*) =) +(\d+)\b", re.MULTILINE)
ARRAY = re.compile(r"^\s*(?:cdef |static )?\w[\w ]* \*?(\w+)\[(\d+)\]", re.MULTILINE)
ADDRESS = 16
"""Bytes of an address; so small a number is also other things."""


def sizes_stated_twice(texts: list[str]) -> list[tuple[str, str]]:
    """(array, constant) of arrays whose size is the number of a constant of the same module."""
    whole = "\n".join(texts)
    constants = {int(number): macro or name for macro, name, number in CONSTANT.findall(whole)}
    sizes = [(array, int(size)) for array, size in ARRAY.findall(whole)]
    return [(array, constants[size]) for array, size in sizes if size > ADDRESS and size in constants]


@pytest.mark.parametrize(
    "text",
    [
        "cdef enum:\n    EVENTS = 256  # at once\n\ncdef class A:\n    cdef epoll_event events[256]\n",
        "cdef enum:\n    EVENTS = 256\n\ncdef struct B:\n    char events[256]\n",
        "#define EVENTS 256 /* at once */\nstatic char events[256];\n",
    ],
)
def test_a_size_stated_twice_is_found(text: str) -> None:
    assert sizes_stated_twice([text]) == [("events", "EVENTS")]
    assert sizes_stated_twice([text.replace("[256]", "[EVENTS]")]) == []


def test_no_size_is_stated_twice() -> None:
    modules: dict[Path, list[str]] = {}
    for path in sources_of(".h", ".pxd", ".pyx"):
        modules.setdefault(path.with_suffix(""), []).append(path.read_text())
    assert {str(module): found for module, texts in modules.items() if (found := sizes_stated_twice(texts))} == {}
