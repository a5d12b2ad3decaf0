"""Imports go down only: a module imports nothing but what stands in a line below its own in the table of layers.

The table is the block called `layers` in ARCHITECTURE.md, modules and packages. A package is one place: its modules may
import each other, without going round in circles.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fastinetd"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"

IMPURE = {"os", "socket", "time", "subprocess", "signal", "select", "threading", "random"}
"""What pure modules must not import: they are given what they need."""

READS_FILES = "config.load"
SELF = "fastinetd."


def lines() -> list[list[str]]:
    """The table's lines from the top to the bottom."""
    block = re.search(r"^```layers\n(.*?)^```", ARCHITECTURE.read_text(), re.MULTILINE | re.DOTALL)
    assert block, "ARCHITECTURE.md has no block called layers"
    return [line.split() for line in block[1].splitlines()]


def depths() -> dict[str, int]:
    """Module or package -> its line."""
    return {name: number for number, line in enumerate(lines()) for name in line}


def modules() -> dict[str, list[Path]]:
    """Module, without `fastinetd.`, -> its files; a .pxd belongs to its .pyx."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.p*")):
        if path.suffix in (".py", ".pyx", ".pxd") and path.name != "__init__.py":
            name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            found.setdefault(name, []).append(path)
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


def test_the_table_has_every_module_once() -> None:
    every = [name for line in lines() for name in line]
    assert sorted(depths()) == sorted(every)
    assert depths().keys() == {place_of(module) for module in modules()}


@pytest.mark.parametrize("module", modules())
def test_imports_go_down(module: str) -> None:
    depth, here = depths(), place_of(module)
    assert here in depth, f"{module} is not in the table of layers"
    up = {name for name in imports(module) if place_of(name) != here and depth.get(place_of(name), -1) <= depth[here]}
    assert up == set()


def test_no_circles() -> None:
    graph = {module: imports(module) for module in modules()}
    while leaves := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert graph == {}


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith(("config.", "policy."))])
def test_pure_modules(module: str) -> None:
    if module == READS_FILES:
        return
    (path,) = modules()[module]
    assert {name.partition(".")[0] for name in imported(path)} & IMPURE == set()
    assert not re.search(r"\bopen\(", path.read_text())
