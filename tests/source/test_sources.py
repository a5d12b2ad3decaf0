"""Tests take the package's sources from one place, which fails when one of them is not found."""

from __future__ import annotations

import re

import pytest

from support import sources
from support.sources import ROOT, python_in, sources_of

PATTERN = re.compile(r"\b(?:PACKAGE|package)(?: / \"\w+\"\))?\.r?glob\(")

OTHERS = {
    "tests/hot/test_stage_library.py": "a folder's, which it counts",
    "tests/source/test_makefile.py": "a tree of its own",
    "tests/support/hot.py": "copies for a build, which fails without one",
    "tests/support/imports.py": "any package's: tests/source/test_layers.py compares it with what there is",
    "tests/support/sources.py": "this is the place",
}
"""File that takes sources by a pattern of its own -> which."""


@pytest.mark.parametrize("change", [-1, 1])
def test_a_source_more_or_less_is_noticed(monkeypatch: pytest.MonkeyPatch, change: int) -> None:
    monkeypatch.setitem(sources.NUMBERS, ".pyx", sources.NUMBERS[".pyx"] + change)
    with pytest.raises(AssertionError, match=r"21 sources end with \.pyx, and 2[02] are known"):
        sources_of(".pxd", ".pyx")


def test_fewer_sources_beside_the_package_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.FEWEST_BESIDE, "bench", len(python_in("bench")) + 1)
    with pytest.raises(AssertionError, match="bench has"):
        python_in("bench")


def test_no_test_has_a_pattern_of_its_own_for_sources() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in python_in("tests") if PATTERN.search(path.read_text())}
    assert found == OTHERS.keys()
