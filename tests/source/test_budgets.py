"""Files and functions stay small, and lines short. Whoever raises a budget does it here, where it is seen."""

import ast
import re
from pathlib import Path

import pytest

from support.sources import PACKAGE, ROOT, python_in, sources_of

LINES = {".py": 400, ".pyi": 250, ".pyx": 500, ".pxd": 450, ".h": 250, ".c": 250}
FUNCTION = 60
WIDTH = 120
"""Characters of a line of C; of Python and Cython ruff and cython-lint see to that."""

BESIDE = [*python_in("tests"), *python_in("bench")]

LONGER_FILES: dict[str, int] = {"pools/workers.pyx": 540}
LONGER_FUNCTIONS: dict[str, int] = {}
"""Name of file, or file and function, -> its own budget."""


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def python_functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines) of each function and method."""
    return [
        (node.name, (node.end_lineno or 0) - node.lineno + 1)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def cython_functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines) of each function of a .pyx or .pxd: from the line that opens it to the last one indented deeper."""
    found = []
    lines = path.read_text().splitlines()
    for at, line in enumerate(lines):
        opened = re.match(r"( *)(?:def|c(?:p)?def (?!class )[^(=]*?)\s*\*{0,2}(\w+)\(", line)
        if opened is None:
            continue
        depth, last, level = len(opened[1]), at, line.count("(") - line.count(")")
        for number in range(at + 1, len(lines)):
            text = lines[number]
            if text.strip() and level <= 0 and len(text) - len(text.lstrip()) <= depth:
                break
            level += text.count("(") - text.count(")")
            if text.strip():
                last = number
        found.append((opened[2], last - at + 1))
    return found


@pytest.mark.parametrize("path", sources_of(*LINES), ids=name_of)
def test_files(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGER_FILES.get(name_of(path), LINES[path.suffix])


@pytest.mark.parametrize("path", BESIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_beside_the_package(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES[".py"]


def too_wide(text: str) -> list[int]:
    """The numbers of the lines with more than WIDTH characters."""
    return [number for number, line in enumerate(text.splitlines(), 1) if len(line) > WIDTH]


def test_lines_of_c() -> None:
    assert too_wide("x" * WIDTH + "\nä" + "x" * WIDTH) == [2]
    beside = [path for folder in ("tests", "bench", "contrib") for path in (ROOT / folder).rglob("*.[ch]")]
    assert len(beside) >= 10, "C is not where it is looked for"
    texts = {path: path.read_text() for path in [*sources_of(".c", ".h"), *beside]}
    assert {str(path): found for path, text in texts.items() if (found := too_wide(text))} == {}


@pytest.mark.parametrize("path", sources_of(".py", ".pyx", ".pxd"), ids=name_of)
def test_functions(path: Path) -> None:
    functions = python_functions(path) if path.suffix == ".py" else cython_functions(path)
    too_long = {
        name: lines for name, lines in functions
        if lines > LONGER_FUNCTIONS.get(f"{name_of(path)}:{name}", FUNCTION)
    }  # fmt: skip
    assert too_long == {}


def test_no_budget_is_left_over() -> None:
    for name, budget in LONGER_FILES.items():
        lines = len((PACKAGE / name).read_text().splitlines())
        assert LINES[Path(name).suffix] < lines <= budget, name
    for entry in LONGER_FUNCTIONS:
        file, _, function = entry.partition(":")
        path = PACKAGE / file
        functions = python_functions(path) if path.suffix == ".py" else cython_functions(path)
        assert dict(functions)[function] > FUNCTION, entry


def test_cython_functions_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "x.pyx"
    path.write_text("cdef int a(int x,\n  int y) noexcept nogil:\n    return 1\n\n\ndef b():\n    pass\nc = 1\n")
    assert cython_functions(path) == [("a", 3), ("b", 2)]


@pytest.mark.parametrize(
    "name",
    ["supervisor/supervisor.py", "services/wait.py", "core/layout.pxd", "core/admit.pyx", "core/reception.pyx"],
)
def test_stateful_files_open_with_theory_and_rules(name: str) -> None:
    text = (PACKAGE / name).read_text()
    assert "Theory." in text
    assert "Rules of this file" in text


@pytest.mark.parametrize("name", LONGER_FILES)
def test_longer_files_say_why(name: str) -> None:
    """At their head, and only as long as they are longer."""
    text = (PACKAGE / name).read_text()
    assert "This file is longer than others:" in text[:2000]
    assert len(text.splitlines()) > LINES[Path(name).suffix]
