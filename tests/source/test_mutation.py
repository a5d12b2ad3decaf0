"""The tool that makes mutations: what its operators make of a text, and that a mutation fits one place only."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from mutation import __main__ as tool
from mutation.operators import Mutation, mutations_of

PYTHON = '''"""Not 1 < 2."""
def f(a, b):
    if a < 3 and not b:
        g("name", True)
    return errno.EIO
'''
CYTHON = '''cdef int f(int a):
    """Not 1 < 2."""
    if a == 7 and not b:
        close(a)
    return -EBADF if a > 0 else a - b  # 3 < 4
'''


def made(file: str, text: str) -> set[tuple[str, str]]:
    """Kind, and the changed line without its indentation."""
    return {(each.name.split()[0], each.replace.strip()) for each in mutations_of(file, text)}


def test_python() -> None:
    assert made("x.py", PYTHON) == {
        ("compare", "if a <= 3 and not b:"), ("limit", "if a < 4 and not b:"), ("logic", "if a < 3 or not b:"),
        ("logic", "if a < 3 and b:"), ("call", "pass"), ("name", "g('namex', True)"), ("constant", 'g("name", False)'),
        ("errno", "return errno.ESRCH"), ("return", "return None"),
    }  # fmt: skip


def test_cython() -> None:
    tail = "  # 3 < 4"
    assert made("x.pyx", CYTHON) == {
        ("compare", "if a != 7 and not b:"), ("limit", "if a == 8 and not b:"), ("logic", "if a == 7 or not b:"),
        ("logic", "if a == 7 and b:"), ("call", "pass"), ("errno", f"return -EPROTO if a > 0 else a - b{tail}"),
        ("compare", f"return -EBADF if a >= 0 else a - b{tail}"), ("sign", f"return -EBADF if a > 0 else a + b{tail}"),
        ("limit", f"return -EBADF if a > 1 else a - b{tail}"),
    }  # fmt: skip


def test_one_place() -> None:
    for text in ("a = 1\na = 1\n", "b = 1\n"):
        with pytest.raises(ValueError, match="times"):
            Mutation("x", "x", "a = 1", "a = 2").applied(text)
    assert Mutation("x", "x", "a = 1", "a = 2").applied("a = 1\n") == "a = 2\n"
    for each in mutations_of("x.py", PYTHON):
        assert sum(one != other for one, other in zip(PYTHON.splitlines(), each.applied(PYTHON).splitlines())) == 1
        with pytest.raises(ValueError, match="another line"):
            each.applied(CYTHON)


def test_the_lists() -> None:
    """Each mutation fits the source as it is, so that none is out of use without anybody's notice."""
    root = Path(__file__).parents[2]
    for name, each in tomllib.loads((root / "tests/mutation/curated.toml").read_text()).items():
        source = (root / each["file"]).read_text()
        assert Mutation(each["file"], name, each["find"], each["replace"]).applied(source) != source, name
        assert each.get("tests") or tool.tests_of(each["file"]), f"{name}: no tests are named for {each['file']}"
        assert [test for test in each.get("tests", ()) if not (root / test).exists()] == [], name
    relevant = tomllib.loads((root / "tests/mutation/relevant.toml").read_text())
    missing = [name for names in relevant.values() for name in [*names, *relevant] if not (root / name).exists()]
    assert missing == []


def test_a_file_without_tests_ends_the_command() -> None:
    """With none named, pytest would run every test for each of its mutations."""
    with pytest.raises(SystemExit, match=r"fastinetd/system/none\.py: no tests are known for it"):
        tool.tests_of("fastinetd/system/none.py")
