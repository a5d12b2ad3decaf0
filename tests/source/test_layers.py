"""Imports go down only: a folder imports nothing but what is on a floor below its own.

The table of folders and their floors is in ARCHITECTURE.md. The modules of a folder may import each other, without
going round in circles.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from support.imports import PACKAGE_ITSELF, SUFFIXES, imports_of, modules_of
from support.sources import PACKAGE, ROOT, sources_of

ARCHITECTURE = ROOT / "ARCHITECTURE.md"

IMPURE = {
    "asyncio", "ctypes", "fcntl", "glob", "grp", "importlib", "io", "mmap", "multiprocessing", "os", "pathlib", "pwd",
    "random", "resource", "select", "selectors", "shutil", "signal", "socket", "stat", "subprocess", "tempfile",
    "threading", "time",
}  # fmt: skip
"""What pure modules must not import, but for numbers of the kernel's by name: they are given what they need."""

BY_NAME = re.compile(r"\b(?:import_module|__import__|run_module|run_path|find_spec|spec_from_\w+|eval|exec)\(")
CHOSEN_BY_USERS = {"plan.handler", "worker.__main__"}
"""Modules that import others by a name that is not written in them: handlers."""

READS_FILES = "config.load"
SELF = "fastinetd."


@cache
def floors() -> dict[str, int]:
    """Folder, or module of the package itself, -> its floor; below all is what every import of any of them runs."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| ", ARCHITECTURE.read_text(), re.MULTILINE)
    found = {folder: int(floor) for floor, folder in rows}
    assert len(found) == len(rows) > 0, "a folder has one floor"
    return found | {PACKAGE_ITSELF: -1}


def place_of(module: str) -> str:
    return module.partition(".")[0]


@cache
def imports(package: Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports."""
    modules = modules_of(package)
    found = {}
    for module, paths in modules.items():
        every = set().union(*(imports_of(path.read_text(), path.relative_to(package)) for path in paths))
        own = {name.removeprefix(SELF) for name in every if name.startswith(SELF)}
        found[module] = (own & modules.keys()) - {module}
    return found


def upwards(package: Path) -> set[tuple[str, str]]:
    """Imports between folders that do not go down: who, and what."""
    return {
        (module, name)
        for module, names in imports(package).items() for name in names
        if place_of(name) != place_of(module) and floors()[place_of(name)] >= floors()[place_of(module)]
    }


def circles(package: Path) -> set[str]:
    """The modules that import each other in a circle, and those that import these."""
    graph = dict(imports(package))
    while leaves := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for module in leaves:
            del graph[module]
    return set(graph)


@pytest.mark.parametrize(("line", "name"), [
    ("from fastinetd.config.load import load", "x.py"), ("from fastinetd.config import inetd, load", "x.py"),
    ("import fastinetd.config.load", "x.py"), ("if TYPE_CHECKING:\n    from fastinetd.config import load", "x.py"),
    ("def late() -> None:\n    import os, fastinetd.config.load", "x.py"),
    ('found = importlib.import_module("fastinetd.config.load")', "x.py"),
    ('found = __import__("fastinetd.config.load")', "x.py"),
    ("from fastinetd.config.load import load", "x.pyi"), ("import fastinetd.config.load", "__init__.py"),
    ("from fastinetd.config cimport load", "x.pxd"), ("cimport fastinetd.config.load", "x.pyx"),
    ("from fastinetd.config cimport (\n    inetd, load as reader,\n)", "x.pyx"),
    ("from fastinetd.config cimport inetd, \\\n    load", "x.pyx"),
    ("cimport os, fastinetd.config.load as reader", "x.pyx"),
    ("try: import fastinetd.config.load", "x.pyx"), ("import os; import fastinetd.config.load", "x.pyx"),
    ('found = import_module("fastinetd.config.load")', "x.pyx"),
    ("found = __import__('fastinetd.config.load')", "x.pyx"),
])  # fmt: skip
def test_every_way_to_import_is_seen(line: str, name: str) -> None:
    assert "fastinetd.config.load" in imports_of(f"x = 1\n{line}\n", Path("worker", name))


@pytest.mark.parametrize(("line", "name"), [
    ('cdef extern from "core/spawn.h" nogil:', "pools/x.pxd"), ('cdef extern from "spawn.h" nogil:', "core/x.pyx"),
    ('cdef extern from *:\n    """\n    #include "core/spawn.h"\n    """', "pools/x.pyx"),
    ('#include "core/spawn.h"', "system/x.h"), ('#include "../core/spawn.h"', "system/x.h"),
    ('#include "spawn.h"', "core/x.h"), ("# include <core/spawn.h>", "cli/x.c"),
])  # fmt: skip
def test_headers_are_seen(line: str, name: str) -> None:
    assert "core.spawn.h" in modules_of(PACKAGE)
    assert "fastinetd.core.spawn.h" in imports_of(f"/* x */\n{line}\n", Path(name))


@pytest.mark.parametrize(("line", "name"), [
    ("from .load import load", "x.py"), ("from . import load", "x.pyi"), ("from .load cimport load", "x.pyx"),
    ("from . cimport load", "x.pxd"), ("from ..config cimport load", "x.pxd"), ('include "load.pxi"', "x.pyx"),
])  # fmt: skip
def test_what_hides_the_name_of_a_module_is_refused(line: str, name: str) -> None:
    with pytest.raises(AssertionError, match=r"relative import|include of Cython's"):
        imports_of(f"x = 1\n{line}\n", Path("config", name))


@pytest.mark.parametrize(("file", "line", "module", "up"), [
    ("worker/__init__.py", "from fastinetd.cli import main", "worker", "cli.main"),
    ("worker/x.py", "from fastinetd import cli", "worker.x", "cli"),
    ("worker/x.py", 'y = import_module("fastinetd.cli.main")', "worker.x", "cli.main"),
    ("worker/x.pyi", "from fastinetd.cli import main", "worker.x", "cli.main"),
    ("system/x.h", '#include "../core/spawn.h"', "system.x.h", "core.spawn.h"),
    ("stage/stage.c", '#include "core/spawn.h"', "stage.stage.c", "core.spawn.h"),
    ("__init__.py", "import fastinetd.config", "__init__", "config"),
])  # fmt: skip
def test_an_import_upwards_is_found(tmp_path: Path, file: str, line: str, module: str, up: str) -> None:
    for name in ("__init__.py", "cli/__init__.py", "cli/main.py", "config/__init__.py", "core/spawn.h", file):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{line}\n" if name == file else "")
    assert (module, up) in upwards(tmp_path)


def test_a_circle_by_way_of_a_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/__init__.py").write_text("from fastinetd.config.load import load\n")
    (tmp_path / "config/load.py").write_text("from fastinetd.config import other\n")
    assert circles(tmp_path) == {"config", "config.load"}


def test_the_table_has_every_folder() -> None:
    assert floors().keys() == {place_of(module) for module in modules_of(PACKAGE)}


def test_no_source_is_passed_over() -> None:
    found = [path for paths in modules_of(PACKAGE).values() for path in paths]
    assert sorted(found) == sources_of(*SUFFIXES)


def test_imports_go_down() -> None:
    assert upwards(PACKAGE) == set()


def test_no_circles() -> None:
    assert circles(PACKAGE) == set()


@pytest.mark.parametrize("line", [
    'import_module(f"fastinetd.{name}")', '__import__("fastinetd." + name)', 'find_spec(".load", "fastinetd.config")',
])  # fmt: skip
def test_an_import_by_a_name_that_is_made_is_seen(line: str) -> None:
    assert BY_NAME.search(f"found = {line}")


def test_names_of_modules_are_written_but_for_those_that_users_choose() -> None:
    found = {
        module for module, paths in modules_of(PACKAGE).items() for path in paths
        if path.suffix in (".py", ".pyx", ".pxd") and BY_NAME.search(re.sub(r'""".*?"""|#.*', "", path.read_text()))
    }
    assert found == CHOSEN_BY_USERS


PURE = [name for name in modules_of(PACKAGE) if place_of(name) in ("config", "policy")]
assert len(PURE) == 23, "a new module, or are they not where they are looked for?"
ROLES = ["relay", "doorman", "monitor"]


def test_roles_without_privileges_have_nothing_of_one_another() -> None:
    graph = imports(PACKAGE)
    for role in ROLES:
        every = {place_of(name) for module in graph if place_of(module) == role for name in graph[module]}
        assert every, f"{role} imports nothing?"
        assert every & {*ROLES} <= {role}


def impurities(text: str) -> list[str]:
    """The imports of a module that is not pure any more with them, and its calls of open()."""
    found = ["open()"] if re.search(r"\bopen\(", text) else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if place_of(alias.name) in IMPURE]
        elif isinstance(node, ast.ImportFrom) and place_of(node.module or "") in IMPURE:
            found += [f"{node.module}.{alias.name}" for alias in node.names if not alias.name.isupper()]
    return found


@pytest.mark.parametrize(("text", "found"), [
    ("import socket", ["socket"]), ("import os.path as p", ["os.path"]), ("from os import path", ["os.path"]),
    ("from socket import AF_INET, socket", ["socket.socket"]), ("from socket import AF_INET", []),
    ("with open('x'): pass", ["open()"]), ("import re", []),
])  # fmt: skip
def test_impurities_are_found(text: str, found: list[str]) -> None:
    assert impurities(text) == found


@pytest.mark.parametrize("module", [*PURE, "core.exec_context", "doorman.desk", "monitor.http", "plan.model"])
def test_pure_modules(module: str) -> None:
    if module == READS_FILES:
        return
    (path,) = modules_of(PACKAGE)[module]
    assert impurities(path.read_text()) == []
