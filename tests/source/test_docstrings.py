"""Docstrings stand alone: help(), an editor and grep show each without its neighbours."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sources import FOLDERS, PACKAGE, python_in, sources_of

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


CYTHON_FUNCTION = re.compile(
    r"^(?P<indent> *)(?:cdef|cpdef|def) (?!class |enum |struct )(?:[\w *]+[ *])?(?P<name>\w+)"
    r"\((?:[^()]|\([^()]*\))*\)[^\n=(]*:\n(?P<first>[^\n]*)",
    re.MULTILINE,
)
CYTHON_CLASS = re.compile(r"^(?:cdef )?class \w+(\()?", re.MULTILINE)


def cython_docstrings(path: Path) -> Iterator[Found]:
    """All strings in three quotes of a .pyx or .pxd, but for C code; and the functions that have none.

    A method of a class with a base may have the docstring of the one that it overrides, a setter its getter's.
    """
    text = path.read_text()
    for match in re.finditer(r'"""(.*?)"""', text, re.DOTALL):
        if not match[1].strip().startswith("#"):
            yield text.count("\n", 0, match.start()) + 1, "string", match[1].strip()
    for match in CYTHON_FUNCTION.finditer(text):
        before = text[: match.start()]
        owners = CYTHON_CLASS.findall(before) if match["indent"] else []
        inherits = bool(owners and owners[-1]) or before.endswith(".setter\n")
        if not inherits and not match["first"].lstrip().startswith('"""'):
            yield before.count("\n") + 1, match["name"], None


def comments_of(path: Path) -> Iterator[Found]:
    """The comments of a file of C that begin a line: they are what a function or a table has for a docstring."""
    text = path.read_text()
    for match in re.finditer(r"^/\*(.*?)\*/", text, re.DOTALL | re.MULTILINE):
        yield text.count("\n", 0, match.start()) + 1, "comment", match[1].replace("\n *", "\n").strip() + "."


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


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_stand_alone(folder: str) -> None:
    faults = []
    for path in (path for path in sources_of(".py", ".pyx", ".pxd") if path.is_relative_to(PACKAGE / folder)):
        docstrings = python_docstrings(path) if path.suffix == ".py" else cython_docstrings(path)
        faults += [f"{path.relative_to(PACKAGE)}:{fault}" for found in docstrings for fault in faults_of(found)]
    assert faults == []


@pytest.mark.parametrize("folder", HELPERS)
def test_docstrings_of_helpers_stand_alone(folder: str) -> None:
    paths = python_in(folder)
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


@pytest.mark.parametrize("folder", ["cli", "stage", "system"])
def test_comments_in_c_stand_alone(folder: str) -> None:
    paths = [path for suffix in "ch" for path in sorted((PACKAGE / folder).glob(f"*.{suffix}"))]
    paths = [path for path in paths if not path.with_suffix(".pyx").exists()]
    assert len(paths) > 1
    found = [(path.name, comment) for path in paths for comment in comments_of(path)]
    assert [f"{name}:{fault}" for name, comment in found for fault in faults_of(comment)] == []


def test_comments_of_c_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.h"
    path.write_text("/* A file. */\n/* Likewise of\n * a folder. */\nint f(int a); /* it */\n/* The same again. */\n")
    faults = [fault for comment in comments_of(path) for fault in faults_of(comment)]
    assert [fault.split(",")[0] for fault in faults] == [
        "2: comment begins with 'Likewise'",
        "2: comment says `likewise`: of what is in another docstring",
        "5: comment begins with 'The same'",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cdef inline u32 *f(int a, bint b) noexcept nogil:\n    return 1\n", ["f"]),
        ("cdef void f(int a,\n            int b) noexcept nogil:\n    pass\n", ["f"]),
        ("cdef int f(int a) noexcept nogil\ncdef int g\n", []),
        ("cdef class A:\n    cdef void f(self) noexcept nogil:\n        pass\n", ["f"]),
        ("cdef class A(B):\n    cdef void f(self) noexcept nogil:\n        pass\n", []),
        ("class A:\n    def f(self, a=None, *, b: int = 1) -> int:\n        return 1\n", ["f"]),
        ("class A:\n    @f.setter\n    def f(self, int a):\n        pass\n", []),
        ('cdef int f(int a):\n    """Do it."""\n    cdef int b = g(a)\n    if g(b):\n        pass\n', []),
    ],
)  # fmt: skip
def test_functions_of_cython_without_one_are_found(tmp_path: Path, text: str, found: list[str]) -> None:
    path = tmp_path / "x.pyx"
    path.write_text(text)
    assert [name for _, name, docstring in cython_docstrings(path) if docstring is None] == found


def test_strings_of_cython_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.pyx"
    path.write_text('"""A."""\ncdef int f():\n    """It is so."""\n')
    assert [fault for found in cython_docstrings(path) for fault in faults_of(found)] == [
        "3: string begins with 'It', which refers to another docstring"
    ]
