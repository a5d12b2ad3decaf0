"""What is hot: the functions of the compiled sources that promise to do without Python, and where they ended up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.sources import PACKAGE, ROOT, sources_of

HEADER = re.compile(
    r"^(?P<indent> *)cdef (?P<kind>inline )?(?P<type>[^\n(=]*?)(?P<name>\w+)\((?P<args>[^()]*)\) noexcept nogil:",
    re.MULTILINE,
)
CLASS = re.compile(r"^cdef class (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Hot:
    """A `cdef ... noexcept nogil` function or method."""

    module: str  # where it is defined, below the package: `_accept`, `core.board`
    name: str
    owner: str  # class, "" for a function
    inline: bool

    @property
    def symbol(self) -> str:
        """The function's name in C, as Cython makes it."""
        return f"__pyx_f_{mangled(self.module, self.owner)}{self.name}"

    def __str__(self) -> str:
        return ".".join(part for part in (self.module, self.owner, self.name) if part)


def mangled(module: str, owner: str = "") -> str:
    """How Cython writes a module of the package, and a class of it, in the names that it makes."""
    parts = (PACKAGE.name, *module.split("."), owner)
    return "".join(f"{len(part)}{part}_" for part in parts if part)


def module_of(path: Path) -> str:
    """The module that a source is, below the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def compiled_modules() -> list[str]:
    """All modules written in Cython; fails when there are more or fewer than are known."""
    return sorted(module_of(path) for path in sources_of(".pyx"))


def hot_in(path: Path) -> list[Hot]:
    """The hot functions that a .pyx or .pxd defines."""
    text = path.read_text()
    classes = [(match.start(), match[1]) for match in CLASS.finditer(text)]
    found = []
    for match in HEADER.finditer(text):
        owner = [name for start, name in classes if start < match.start()][-1] if match["indent"] else ""
        found.append(Hot(module_of(path), match["name"], owner, bool(match["kind"])))
    return found


@cache
def hot_functions() -> tuple[Hot, ...]:
    return tuple(hot for path in sources_of(".pyx", ".pxd") for hot in hot_in(path))


@dataclass(frozen=True)
class Built:
    """A build without optimisation, in a folder of its own."""

    folder: Path
    log: str

    def c_of(self, module: str) -> str:
        return (self.folder / "fastinetd" / f"{module.replace('.', '/')}.c").read_text()

    def extension(self, module: str) -> Path:
        (path,) = (self.folder / "lib" / "fastinetd").glob(f"{module.replace('.', '/')}.*.so")
        return path


def build_into(folder: Path) -> Built:
    """Copy the compiled sources to `folder` and build them there, for debugging."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for pattern in ("*.pyx", "*.pxd", "*.h", "stage.c", "__init__.py"):
        for path in PACKAGE.rglob(pattern):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "temp"],
        cwd=folder, env=os.environ | {"FASTINETD_BUILD": "debug"}, capture_output=True, text=True, check=False,
    )
    log = done.stdout + done.stderr
    if done.returncode:
        raise AssertionError(log)
    return Built(folder, log)


def body_of(c_source: str, hot: Hot) -> str | None:
    """The C text of a function's body without comments; None if this file does not define it."""
    found = re.search(rf"\n(?:static )?[^\n;]*\b{hot.symbol}\([^;{{]*\) \{{\n(.*?)\n\}}\n", c_source, re.DOTALL)
    return re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL) if found else None


def disassembly(path: Path, *options: str) -> dict[str, list[str]]:
    """Function -> the names it calls, by objdump; `*` is a call by a pointer."""
    done = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", *options, str(path)], capture_output=True, text=True, check=True
    )
    calls: dict[str, list[str]] = {}
    current: list[str] = []
    waiting = False  # the call's name is in the relocation on the next line
    for line in done.stdout.splitlines():
        if opened := re.match(r"[0-9a-f]+ <([^>]+)>:", line):
            current = calls.setdefault(opened[1], [])
            waiting = False
        elif waiting and (relocation := re.search(r"R_\w+\s+([\w.]+)", line)):
            current[-1] = relocation[1]
            waiting = False
        elif called := re.search(r"\t(?:bnd )?(?:callq?|blr?)\s+(.*)", line):
            name = re.search(r"<([\w.]+)(?:@plt|@@?[\w.]+)?(?:\+0x[0-9a-f]+)?>", called[1])
            current.append(name[1] if name and not called[1].lstrip().startswith("*") else "*")
            waiting = "-r" in options
    return calls
