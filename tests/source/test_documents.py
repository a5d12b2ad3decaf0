"""What the documents for developers name is there: modules by folder and name, targets of the Makefile."""

import re

import pytest

from support.sources import FOLDERS, PACKAGE, ROOT

DOCUMENTS = ("ARCHITECTURE.md", "CONTRIBUTING.md")
MODULE = re.compile(rf"(?<![\w/])((?:{'|'.join(FOLDERS)})/\w+(?:\.(?:py|pyx|pxd|pyi|h|c))?)\b")
WRITTEN = (".py", ".pyx", ".pxd", ".h")
"""Endings of what is written by hand: C that a build has left is no module."""

ROW = re.compile(r"^\| \d+ \| `(\w+)` \| (.*) \|$", re.MULTILINE)
"""A row of ARCHITECTURE's table of folders."""

TARGET = re.compile(r"`make ([a-z-]+)")


def modules_named(text: str) -> set[str]:
    """Modules as `folder/name`, with or without an ending."""
    return set(MODULE.findall(text))


def is_there(module: str) -> bool:
    """Whether the package has the file, or a file of that name with some ending."""
    path = PACKAGE / module
    return path.is_file() if path.suffix else any(path.with_suffix(ending).is_file() for ending in WRITTEN)


def test_the_map_fits_on_a_page() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS)
def test_modules_are_there(document: str) -> None:
    named = modules_named((ROOT / document).read_text())
    assert len(named) > 20
    assert {module for module in named if not is_there(module)} == set()


def test_modules_of_the_table_of_folders_are_there() -> None:
    rows = dict(ROW.findall((ROOT / "ARCHITECTURE.md").read_text()))
    assert rows.keys() >= {*FOLDERS}
    named = {f"{folder}/{name}" for folder in FOLDERS for name in re.findall(r"`([\w.]+)`", rows[folder])}
    assert len(named) > 5
    assert {module for module in named if not is_there(module)} == set()


@pytest.mark.parametrize("document", [*DOCUMENTS, "README.md"])
def test_targets_are_there(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(TARGET.findall((ROOT / document).read_text())) <= targets


def test_what_is_not_there_is_seen() -> None:
    named = modules_named("in core/board.pyx, core/admit, bench/scenario and `logs/journal.py`; see docs/logs/x.md")
    assert named == {"core/board.pyx", "core/admit", "logs/journal.py"}
    assert [is_there(name) for name in sorted(named)] == [True, True, False]
