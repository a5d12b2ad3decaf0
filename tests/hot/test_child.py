"""Between clone and execve the child, which runs in its parent's memory, only makes system calls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.hot import Built, compiled_modules, disassembly
from support.sources import PACKAGE, sources_of

PROGRAM = """
#include "core/spawn.h"
int main(void)
{
    struct spawn_plan plan = {0};
    struct spawn_call call = {.plan = &plan};
    int32_t pid;
    return spawn_clone(&call, &pid) + spawn_posix(&call, &pid);
}
"""
ALLOWED = {"syscall", "__errno_location", "memset"}
STEPS = {"keep_capabilities", "take_guard"}
"""Functions of their own, of core/spawn_guard.h."""


@pytest.fixture(scope="module", params=["-O0", "-O2"])
def calls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Function -> what it calls, of core/spawn.h compiled alone."""
    missing = [tool for tool in ("gcc", "objdump") if shutil.which(tool) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"{' and '.join(missing)} missing")
    folder = tmp_path_factory.mktemp("child")
    (folder / "x.c").write_text(PROGRAM)
    subprocess.run(
        ["gcc", request.param, "-fno-inline", "-c", "-Wall", "-Werror", "-I", str(PACKAGE), "x.c", "-o", "x.o"],
        cwd=folder, check=True,
    )
    return disassembly(folder / "x.o", "-r")


def test_child_makes_system_calls_only(calls: dict[str, list[str]]) -> None:
    assert "syscall" in calls["child_main"]
    assert set(calls["child_main"]) <= ALLOWED | STEPS
    assert "syscall" in {name for step in STEPS for name in calls[step]} <= ALLOWED


def test_parent_is_seen_to_call_more(calls: dict[str, list[str]]) -> None:
    """The search sees other calls where there are some."""
    names = {name for function in ("spawn_clone", "spawn_posix") for name in calls[function]}
    assert {"clone", "posix_spawn"} <= names


def child_source() -> str:
    text = (PACKAGE / "core" / "spawn.h").read_text()
    start = text.index("static int child_main(")
    body = text[start : text.index("\n}\n", start)]
    return re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)


def test_child_writes_nothing_of_its_parents_but_the_error() -> None:
    stores = re.findall(r"(\w+(?:->|\.)\w+)\s*(?:=(?!=)|\+=|-=|\+\+|--)", child_source())
    assert stores == ["call->error", "call->step"]


def test_child_never_returns() -> None:
    text = child_source()
    assert "return" not in re.findall(r"\w+", text)
    assert text.rstrip().endswith("__builtin_unreachable();")
    assert text.index("SYS_execve") < text.index("failed:") < text.index("SYS_exit")


def test_the_header_says_why_it_is_c() -> None:
    first = (PACKAGE / "core" / "spawn.h").read_text().partition("*/")[0]
    assert "Why C" in first


def test_one_extension_has_it(built: Built) -> None:
    """A process needs one stack for its children."""
    modules = compiled_modules()
    assert [module for module in modules if '"core/spawn.h"' in built.c_of(module)] == ["core.spawn"]
    assert [module for module in modules if "child_main" in disassembly(built.extension(module))] == ["core.spawn"]


def lines_of(paths: set[Path]) -> int:
    return sum(len(path.read_text().splitlines()) for path in paths)


def test_c_is_kept_small() -> None:
    """What lies between clone and execve; what the daemon's processes have in C besides; the command's executable file;
    and no other C but the library that goes into held programs, which has nothing in common with them."""
    everything = {*sources_of(".c", ".h")}
    child = {path for path in everything if path.parent.name == "core"}
    stage = {path for path in everything if path.parent.name == "stage"}
    launcher = {path for path in everything if path.parent.name == "cli"}
    others = everything - child - stage - launcher
    found = len(child), len(stage), len(launcher), len(others)
    assert found == (3, 15, 2, 4), "new C: is it needed, and where does it belong?"
    assert lines_of(child) <= 290
    assert lines_of(launcher) <= 225
    assert lines_of(others) <= 335
    shared = {path.name for path in child | launcher | others if re.search(r'#include ".*stage/', path.read_text())}
    assert shared == set()
