"""What an installation has: the licence, the documents with links that hold, the unit, the header, the examples."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from support.sources import ROOT, python_in, sources_of

CACHES = (".*_cache", ".git", ".venv", ".hypothesis", "build", "results", "*.egg-info", "*.so")
LINK = re.compile(r"\]\(([^)#]+)")
BENCH = "bench/README.md"
"""How to measure; it comes with the sources alone."""


LEFT = f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}/fastinetd/core/gone.py"
"""What a build of before has left, of a module that is gone."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and a wheel without the compiled modules, of a copy of the tree."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*CACHES))
    left = folder / "tree" / LEFT
    left.parent.mkdir(parents=True)
    left.touch()
    built = ["build_py", "build_scripts", "sdist", "-d", "..", "bdist_wheel", "--skip-build", "-d", ".."]
    command = [sys.executable, "setup.py", "-q", *built]
    done = subprocess.run(command, cwd=folder / "tree", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(made: Path) -> dict[str, str]:
    """Name -> text, but for programs; what goes below the prefix by its name there."""
    (path,) = made.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        texts = [name for name in archive.namelist() if "/scripts/" not in name]
        return {name.partition(".data/data/")[2] or name: archive.read(name).decode() for name in texts}


@pytest.fixture(scope="module")
def sources(made: Path) -> set[str]:
    (path,) = made.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


FEWEST = {"*": 12, "*.md": 4, "LICENSE": 1, "docs/*": 7, "contrib/*": 5, "tests/golden/*": 192, "bench/**/*.c": 6}
"""Pattern -> how many files it fits at the least."""


def tree(*patterns: str) -> set[str]:
    """The files that fit the patterns; fails when there are fewer than there have been."""
    found = {pattern: [path for path in ROOT.glob(pattern) if path.is_file()] for pattern in patterns}
    numbers = {pattern: len(paths) for pattern, paths in found.items()}
    assert not {pattern: number for pattern, number in numbers.items() if number < FEWEST[pattern]}, numbers
    return {str(path.relative_to(ROOT)) for paths in found.values() for path in paths}


def test_no_module_of_before(wheel: dict[str, str]) -> None:
    assert "fastinetd/core/board.pyi" in wheel
    assert "fastinetd/core/gone.py" not in wheel


def test_every_module(wheel: dict[str, str]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in sources_of(".py", ".pyi")}
    assert modules | {"fastinetd/py.typed"} <= wheel.keys()


def test_metadata(wheel: dict[str, str]) -> None:
    (text,) = (text for name, text in wheel.items() if name.endswith(".dist-info/METADATA"))
    said = Parser().parsestr(text)
    assert (said["License-Expression"], said["Author"]) == ("BSD-2-Clause", "fastinetd developers")
    assert any(name.endswith(f".dist-info/licenses/{said['License-File']}") for name in wheel)
    assert "SPDX-License-Identifier: BSD-2-Clause" in wheel["include/fastinetd_worker.h"]


def test_the_command_is_an_executable_file(made: Path) -> None:
    """The command is no script, for which the interpreter would be the process's executable file."""
    (path,) = made.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        (command,) = (info for info in archive.infolist() if "/scripts/" in info.filename)
        assert command.filename.endswith(".data/scripts/fastinetd")
        assert command.external_attr >> 16 & 0o777 == 0o755
        assert archive.read(command)[:4] == b"\x7fELF"
        assert not [name for name in archive.namelist() if name.endswith("entry_points.txt")]


def test_below_the_prefix(wheel: dict[str, str]) -> None:
    assert "[Service]" in wheel["lib/systemd/system/fastinetd.service"]
    shared = {f"share/doc/fastinetd/{name}" for name in tree("docs/*", "contrib/*", "*.md", "LICENSE")}
    assert shared == {name for name in wheel if name.startswith("share/")}


def test_links_hold(wheel: dict[str, str]) -> None:
    pages = {name: text for name, text in wheel.items() if name.startswith("share/") and name.endswith(".md")}
    assert len(pages) > 5
    for name, text in pages.items():
        for link in LINK.findall(text):
            where = str((ROOT / Path(name).parent / link).resolve().relative_to(ROOT))
            assert where in wheel or where == f"share/doc/fastinetd/{BENCH}", f"{name}: {link}"


def test_sources_are_whole(sources: set[str]) -> None:
    """All that `make test` and a build need."""
    core = {str(path.relative_to(ROOT)) for path in sources_of(".pyx", ".pxd", ".h", ".c")}
    python = {str(path.relative_to(ROOT)) for path in [*python_in("tests"), *python_in("bench")]}
    wanted = tree("*", "docs/*", "contrib/*", "tests/golden/*", "bench/**/*.c") | python | core
    wanted = {name for name in wanted if name not in (".git", ".gitignore") and not name.endswith(".log")}
    assert wanted | {"LICENSE", BENCH, ".ci/run", "tests/debian-packages.txt"} <= sources
    assert not {name for name in sources if name.endswith((".so", ".pyc"))}
    made_here = {f"{name.removesuffix('.pyx')}.c" for name in core}
    assert not made_here & sources, "C made by Cython: each build makes its own"
