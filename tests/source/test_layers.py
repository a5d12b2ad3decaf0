"""Imports go down only: a folder imports nothing but what is on a floor below its own.

The table of folders and their floors is in ARCHITECTURE.md. The modules of a folder may import each other, without
going round in circles.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fastinetd"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"

IMPURE = {
    "glob", "io", "os", "pathlib", "random", "select", "shutil", "signal", "socket", "stat", "subprocess", "threading",
    "time",
}  # fmt: skip
"""What pure modules must not import: they are given what they need."""

READS_FILES = "config.load"
SELF = "fastinetd."


def floors() -> dict[str, int]:
    """Folder, or module of the package itself, -> its floor."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| ", ARCHITECTURE.read_text(), re.MULTILINE)
    found = {folder: int(floor) for floor, folder in rows}
    assert len(found) == len(rows) > 0, "a folder has one floor"
    return found


def modules() -> dict[str, list[Path]]:
    """Module, without `fastinetd.`, -> its files; a .pxd belongs to its .pyx, a header is a module with its ending."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.p*")):
        if path.suffix in (".py", ".pyx", ".pxd") and path.name != "__init__.py":
            name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            found.setdefault(name, []).append(path)
    for path in sorted(PACKAGE.rglob("*.h")):
        found[".".join(path.relative_to(PACKAGE).parts)] = [path]
    assert len(found) > 100, "modules are not where they are looked for"
    return found


def place_of(module: str) -> str:
    return module.partition(".")[0]


def imported(path: Path) -> set[str]:
    """All that a file imports: a module, and what is taken from it, which may be a module too. Imports for the type
    checker alone count."""
    return imports_of(path.read_text(), path.suffix)


def imports_of(text: str, suffix: str = ".py") -> set[str]:
    if suffix != ".py":
        whole = re.findall(r"^ *c?import (.*)$", text, re.MULTILINE)
        names = {name for line in whole for name in re.split(r"[\s,]+", line)}
        for module, taken in re.findall(r"^ *from (\S+) c?import (\([^)]*\)|.*)$", text, re.MULTILINE):
            names |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", taken))}
        headers = re.findall(r'(?:extern from|#include) "(\w+)/(\w+\.h)"', text)
        names |= {f"{SELF}{folder}.{name}" for folder, name in headers}
        return names
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imports(module: str) -> set[str]:
    """The modules of this package that a module imports."""
    every = set().union(*(imported(path) for path in modules()[module]))
    known = modules().keys()
    own = {name.removeprefix(SELF) for name in every if name.startswith(SELF)}
    return (own & known) - {module}


@pytest.mark.parametrize(("line", "suffix"), [
    ("from fastinetd.config.load import load", ".py"), ("from fastinetd.config import inetd, load", ".py"),
    ("import fastinetd.config.load", ".py"), ("if TYPE_CHECKING:\n    from fastinetd.config import load", ".py"),
    ("def late() -> None:\n    import os, fastinetd.config.load", ".py"),
    ("from fastinetd.config cimport load", ".pxd"), ("cimport fastinetd.config.load", ".pyx"),
    ("from fastinetd.config cimport (\n    inetd, load as reader,\n)", ".pyx"),
    ("cimport os, fastinetd.config.load as reader", ".pyx"),
])  # fmt: skip
def test_every_way_to_import_is_seen(line: str, suffix: str) -> None:
    assert "fastinetd.config.load" in imports_of(f"x = 1\n{line}\n", suffix)


@pytest.mark.parametrize(("line", "suffix"), [
    ('cdef extern from "core/spawn.h" nogil:', ".pxd"), ('#include "core/spawn.h"', ".h"),
])  # fmt: skip
def test_headers_are_seen(line: str, suffix: str) -> None:
    assert "core.spawn.h" in modules()
    assert "fastinetd.core.spawn.h" in imports_of(f"/* x */\n{line}\n", suffix)


def test_the_table_has_every_folder() -> None:
    assert floors().keys() == {place_of(module) for module in modules()}


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module: str) -> None:
    floor, here = floors(), place_of(module)
    assert here in floor, f"{module} is not in the table of folders"
    up = {name for name in imports(module) if place_of(name) != here and floor[place_of(name)] >= floor[here]}
    assert up == set()


def test_no_circles() -> None:
    graph = {module: imports(module) for module in modules()}
    while leaves := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert graph == {}


PURE = [name for name in modules() if name.startswith(("config.", "policy."))]
assert len(PURE) == 21, "a new module, or are they not where they are looked for?"
ROLES = ["relay", "doorman", "monitor"]


def test_roles_without_privileges_have_nothing_of_one_another() -> None:
    for role in ROLES:
        every = {place_of(name) for module in modules() if place_of(module) == role for name in imports(module)}
        assert every & {*ROLES} <= {role}


@pytest.mark.parametrize("module", [*PURE, "doorman.desk", "monitor.http"])
def test_pure_modules(module: str) -> None:
    if module == READS_FILES:
        return
    (path,) = modules()[module]
    assert {name.partition(".")[0] for name in imported(path)} & IMPURE == set()
    assert not re.search(r"\bopen\(", path.read_text())
