"""What the pages of the documentation name is there: files, headings, options, attributes and metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastinetd.cli.options import make_parser
from fastinetd.config.settings import SETTINGS
from fastinetd.monitor.metrics import METRICS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
assert len(PAGES) == 12, "a new page, or are they not where they are looked for?"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\((?!\w+:)([^)#]*)(?:#([^)]*))?\)")
FILE = re.compile(r"(?<![\w/.-])((?:docs|tests|bench|contrib|fastinetd|\.ci)/[\w./*-]*[\w*])")
MADE = {"bench/build"}
"""Folders that are made by what the page tells to do."""

COMMAND = re.compile(r"(?:\S*/)?(?:fastinetd|python -P -m fastinetd)( .*)?")
HEADER = (ROOT / "contrib" / "fastinetd_worker.h").read_text()


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def missing_files(text: str) -> set[str]:
    """Paths from the top of the tree that lead nowhere."""
    return {name for name in FILE.findall(text) if not any(ROOT.glob(name))} - MADE


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def broken_links(page: Path, text: str) -> set[str]:
    """Links to files that are not there, or to headings that they do not have."""
    broken = set()
    for name, anchor in LINK.findall(text):
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.add(f"{name}#{anchor}")
    return broken


def unknown_options(text: str) -> set[str]:
    """Options of commands that start the daemon which it does not have."""
    lines = [line.partition("#")[0].rstrip() for _, block in BLOCK.findall(text) for line in block.splitlines()]
    lines += SPAN.findall(BLOCK.sub("", text))
    commands = [found[1] or "" for line in lines if (found := COMMAND.fullmatch(line))]
    used = {option for command in commands for option in re.findall(r"(?<= )--?[a-zA-Z][\w-]*", command)}
    return used - make_parser().option_strings


def unknown_attributes(text: str) -> set[str]:
    """Names before an operator, in blocks of xinetd.conf and within a line, that are no attribute."""
    blocks = [block for language, block in BLOCK.findall(text) if language == "xinetd"]
    names = {name for block in blocks for name in re.findall(r"^\s+(\w+)\s+[+-]?=", block, re.MULTILINE)}
    spans = SPAN.findall(BLOCK.sub("", text))
    return (names | {found[1] for span in spans if (found := re.match(r"([a-z_]+) [+-]?= ", span))}) - SETTINGS.keys()


def unknown_metrics(text: str) -> set[str]:
    """Names as metrics have them that are none, nor of the header for workers in C."""
    known = {entry.name for entry in METRICS} | {*re.findall(r"fastinetd_\w+", HEADER), "fastinetd_worker"}
    return {*re.findall(r"\bfastinetd_\w+", text)} - known


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_what_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    assert missing_files(text) == set()
    assert broken_links(page, text) == set()
    assert unknown_options(text) == set()
    assert unknown_attributes(text) == set()
    assert unknown_metrics(text) == set()


def test_what_is_not_there_is_seen() -> None:
    page = ROOT / "README.md"
    assert missing_files("in docs/logs.md, `tests/golden/*.conf` and bench/nothing.py") == {"bench/nothing.py"}
    links = "[a](docs/logs.md) [b](docs/logs.md#sinks) [c](logs.md) [d](https://example.org/) [e](#install)"
    assert broken_links(page, links) == {"docs/logs.md#sinks", "logs.md#"}
    assert unknown_options("```\nfastinetd --check -x  # and -y\ncurl -z\n```\nor `fastinetd --nothing 1`") == {
        "-x", "--nothing",
    }  # fmt: skip
    assert unknown_attributes("```xinetd\n    umask = 022\n    limit += 1\n```\n`wait = no`, `speed = 2`") == {
        "limit", "speed",
    }  # fmt: skip
    assert unknown_metrics("`fastinetd_children{service}`, fastinetd_next() and fastinetd_parents") == {
        "fastinetd_parents",
    }
