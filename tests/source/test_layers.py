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
    """All modules a file imports; imports for the type checker alone do not count."""
    text = path.read_text()
    if path.suffix != ".py":
        found = re.findall(r"^ *(?:from (\S+) c?import|c?import (\S+))", text, re.MULTILINE)
        return {one or other for one, other in found}
    names = set()
    pending: list[ast.AST] = [ast.parse(text)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            own = f"{node.module}."
            names |= {own + alias.name for alias in node.names} if own == SELF else {node.module or ""}
        pending += ast.iter_child_nodes(node)
    return names


def imports(module: str) -> set[str]:
    """The modules of this package that a module imports."""
    every = set().union(*(imported(path) for path in modules()[module]))
    known = modules().keys()
    own = {name.removeprefix(SELF) for name in every if name.startswith(SELF)}
    return (own & known) - {module}


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
