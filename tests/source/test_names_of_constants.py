"""A constant's name means one thing: who has read it in one module need not look it up in the next."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from support.sources import PACKAGE, sources_of

MODULE = re.compile(r"^(?:cdef (?:const )?\w+ )?([A-Z][A-Z0-9_]+) = ", re.MULTILINE)
ENUM = re.compile(r"^c?p?def enum ?\w*:\n((?:    .*\n|\n)+)", re.MULTILINE)
MEMBER = re.compile(r"^    ([A-Z][A-Z0-9_]+) = ", re.MULTILINE)

ONE_MEANING = {
    "ANSWER_WITHIN": "of doorman/protocol, in nanoseconds in core/questions",
    "ASK_AGAIN": "of doorman/protocol, in nanoseconds in core/questions",
    "FACILITIES": "of syslog: those that may be written, and their numbers",
    "IDENT": "by which syslog knows the writer: the daemon, and a worker",
    "MESSAGE_BYTES": "of a worker's message: as many as it sends, and as the daemon reads",
    "TIME": "a built-in service's name, and a refusal's: members of two enums that metrics and services call so",
}
"""Names that several modules have, each for one thing or with a reason."""


def constants(path: Path) -> set[str]:
    """The public constants of a module: in Cython the members of enums too, which are cimported by their bare names."""
    text = path.read_text()
    if path.suffix == ".py":
        bodies = [
            node.targets if isinstance(node, ast.Assign) else [node.target]
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign | ast.AnnAssign)
        ]
        names = {target.id for targets in bodies for target in targets if isinstance(target, ast.Name)}
        return {name for name in names if re.fullmatch(r"[A-Z][A-Z0-9_]+", name)}
    members = {name for block in ENUM.findall(text) for name in MEMBER.findall(block)}
    return {*MODULE.findall(text), *members}


def several(paths: list[Path], root: Path) -> dict[str, set[str]]:
    """The names that several modules have, and these; a .pyx and its .pxd are one module."""
    modules: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        for name in constants(path):
            modules[name].add(str(path.relative_to(root).with_suffix("")))
    return {name: found for name, found in modules.items() if len(found) > 1}


def test_a_name_means_one_thing() -> None:
    found = several(sources_of(".py", ".pyx", ".pxd"), PACKAGE)
    assert {name: modules for name, modules in found.items() if name not in ONE_MEANING} == {}
    assert ONE_MEANING.keys() - found.keys() == set(), "no reason is needed any more"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.py", "LIMIT: int = 1\n_LIMIT_2 = 1\nlimit = 1\n\n\ndef f():\n    LIMIT_3 = 1\n"),
        ("x.pyx", "cdef u64 LIMIT = 1\ncdef int limit = 1\n"),
        ("x.pyx", "LIMIT = 1\ncdef enum:\n    _A = 1\n"),
        ("x.pxd", "cdef enum:\n    LIMIT = 1  # of all\n\ncdef struct A:\n    int LIMIT_2\n"),
        ("x.pxd", 'cpdef enum Limit:\n    """Limits."""\n    # One.\n    LIMIT = 1\n'),
    ],
)
def test_constants_are_found(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    other = tmp_path / "other.py"
    other.write_text("LIMIT = 2\n")
    assert constants(path) == {"LIMIT"}
    assert several([path, other], tmp_path) == {"LIMIT": {"x", "other"}}


def test_a_declaration_is_no_second_constant(tmp_path: Path) -> None:
    paths = [tmp_path / "x.pyx", tmp_path / "x.pxd"]
    for path in paths:
        path.write_text("LIMIT = 1\n")
    assert several(paths, tmp_path) == {}
