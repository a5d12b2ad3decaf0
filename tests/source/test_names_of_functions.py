"""A function of a module says in its name what it is of, or does to what: grep finds it, and each only once."""

import ast
import re
from pathlib import Path

import pytest

from support.sources import PACKAGE, sources_of

CYTHON = re.compile(r"^c?p?def (?!class |enum|struct|extern|packed)(?:inline )?(?:[\w ]+ )?\**(\w+)\(", re.MULTILINE)
C = re.compile(r"^static (?:[\w]+ )*(?:__attribute__\(\([\w]+\)\) )?(?:\w+ )*\**(\w+)\([^;]*\)\n\{", re.MULTILINE)

TABLES = ("config/values.py", "cli/options.py")
"""Parsers of what may be written, named by what they read: the rows of settings use them as values.NAME, and argparse
shows their names."""

ONE_WORD = {
    "cli/demo.py": {"instructions"},  # used as demo.instructions
    "cli/main.py": {"main"},
    "config/settings.py": {"_own"},  # begins a row of the table
    "doorman/doorman.py": {"run"},  # of a role, used as doorman.run
    "monitor/monitor.py": {"run"},
    "system/allowances.py": {"refusal", "warnings"},  # used as allowances.refusal
    "system/own_process.py": {"shortcomings"},
    "system/processes.py": {"prctl"},  # the system call's
    "worker/__main__.py": {"main"},
    "worker/handlers.py": {"serve"},  # of workers' authors, as the next
    "worker/protocol.py": {"close", "connections"},
    "worker/log.py": {"log"},
}


def functions(path: Path) -> list[str]:
    """The functions of a file that belong to no class."""
    text = path.read_text()
    if path.suffix == ".py":
        return [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return (CYTHON if path.suffix in (".pyx", ".pxd") else C).findall(text)


def single_words(names: list[str]) -> set[str]:
    return {name for name in names if "_" not in name.strip("_")}


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".py", "def put():\n    pass\n\n\nclass A:\n    def of(self):\n        pass\n"),
        (".pyx", "cdef inline char **put(int a) noexcept nogil:\n    pass\n\ncdef class A:\n    def of(self):\n"),
        (".pxd", "cdef u32 put(int a) noexcept nogil\ncdef struct A:\n    int of\n"),
        (".c", "static void __attribute__((noreturn)) put(int a)\n{\n}\nint of(int a);\n"),
        (".h", "static inline const char *put(int a,\n                 int b)\n{\n}\n"),
    ],
)
def test_a_single_word_is_found(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text(text)
    assert single_words(functions(path)) == {"put"}


def test_functions_have_an_object() -> None:
    paths = sources_of(".py", ".pyx", ".pxd", ".c", ".h")
    found = {str(path.relative_to(PACKAGE)): single_words(functions(path)) for path in paths}
    assert {name: words for name, words in found.items() if words and name not in TABLES} == ONE_WORD
