"""Docstrings stand alone: help(), an editor and grep show each without its neighbours."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fastinetd"
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
assert len(FOLDERS) == 17, "a new folder, or are they not where they are looked for?"
assert len(FOLDERS) > 15

HELPERS = ("bench", "tests/support", "tests/mutation", "tests/source")
"""Folders beside the package whose docstrings stand alone; where a name says all, there is none."""

LEANS = re.compile(
    r"(?:it|its|itself|they|them|their|this(?! (?:process|role))|these|those|that|he|she|him|his|her|so|nor|and|or|but|"
    r"then|likewise|also|too|the same|the former|the latter|as above|see above|ditto)\b",
    re.IGNORECASE,
)
"""Beginnings that refer to a sentence before."""

BASES_WITHOUT_DOCSTRINGS = {"ABC", "Enum", "Exception", "IntEnum", "NamedTuple", "Protocol"}
"""A method of a class with another base may have the docstring of the method that it overrides, as help() shows it."""

ENDS = (".", ".)", "`", "!", "?")
Found = tuple[int, str, str | None]
"""Line, name, and docstring."""
Owner = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def python_docstrings(path: Path) -> Iterator[Found]:
    """What the module, its classes and functions, and its constants have for docstrings."""
    yield from docstrings_in(ast.parse(path.read_text()), "module")


def docstrings_in(node: Owner, name: str) -> Iterator[Found]:
    yield getattr(node, "lineno", 1), name, ast.get_docstring(node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for before, child in zip([None, *node.body], node.body):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inherits = isinstance(node, ast.ClassDef) and {*map(ast.unparse, node.bases)} - BASES_WITHOUT_DOCSTRINGS
            if not inherits or ast.get_docstring(child) is not None:
                yield from docstrings_in(child, child.name)
        elif isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(child, ast.Expr):
            text = child.value.value if isinstance(child.value, ast.Constant) else None
            if isinstance(text, str):
                yield child.lineno, "constant", text


def cython_docstrings(path: Path) -> Iterator[Found]:
    """All strings in three quotes of a .pyx or .pxd, but for C code."""
    text = path.read_text()
    for match in re.finditer(r'"""(.*?)"""', text, re.DOTALL):
        if not match[1].strip().startswith("#"):
            yield text.count("\n", 0, match.start()) + 1, "string", match[1].strip()


def faults_of(found: Found) -> Iterator[str]:
    """What is wrong with a docstring; a public name must have one."""
    line, name, text = found
    if text is None:
        if not name.startswith("_"):
            yield f"{line}: {name} has no docstring"
        return
    if begins := LEANS.match(text):
        yield f"{line}: {name} begins with {begins[0]!r}, which refers to another docstring"
    if re.search(r"\blikewise\b", text, re.IGNORECASE):
        yield f"{line}: {name} says `likewise`: of what is in another docstring"
    if not text.rstrip().endswith(ENDS):
        yield f"{line}: {name} ends in the middle of a sentence: {text.rstrip()[-30:]!r}"


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (PACKAGE / folder).rglob("*") if path.suffix in (".py", ".pyx", ".pxd"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_stand_alone(folder: str) -> None:
    paths = sources(folder)
    assert paths
    faults = []
    for path in paths:
        docstrings = python_docstrings(path) if path.suffix == ".py" else cython_docstrings(path)
        faults += [f"{path.relative_to(PACKAGE)}:{fault}" for found in docstrings for fault in faults_of(found)]
    assert faults == []


@pytest.mark.parametrize("folder", HELPERS)
def test_docstrings_of_helpers_stand_alone(folder: str) -> None:
    paths = sorted((PACKAGE.parent / folder).rglob("*.py"))
    assert paths
    written = [(path, found) for path in paths for found in python_docstrings(path) if found[2] is not None]
    assert [f"{path.name}:{fault}" for path, found in written for fault in faults_of(found)] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('"""A."""\ndef f(): ...', "2: f has no docstring"),
        ('"""A."""\nX = 1\n"""Likewise of x."""', "3: constant begins with 'Likewise'"),
        ('"""A."""\nclass C:\n  """Its c."""', "2: C begins with 'Its'"),
        ('"""A."""\nclass C:\n  """A c."""\n  def f(self):\n    """A thing which"""', "4: f ends in the middle"),
        ("x = 1", "1: module has no docstring"),
    ],
)  # fmt: skip
def test_faults_are_found(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(text)
    faults = [fault for found in python_docstrings(path) for fault in faults_of(found)]
    assert [text.startswith(fault) for text in faults] in ([True], [True, False]), faults


def test_strings_of_cython_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.pyx"
    path.write_text('"""A."""\ncdef int f():\n    """It is so."""\n')
    assert [fault for found in cython_docstrings(path) for fault in faults_of(found)] == [
        "3: string begins with 'It', which refers to another docstring"
    ]
