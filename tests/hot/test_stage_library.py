"""The library that holds programs is small, alone, and makes all its system calls in one place."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.stage import LIBRARY, PACKAGE

SOURCES = sorted((PACKAGE / "stage").glob("*.[ch]"))
assert len(SOURCES) == 15


FROM_THE_PROGRAM = ["__environ", "environ", "shell_start_time"]
"""Its environment, and bash's memory of its start; none of them need be there."""


def output(*command: str) -> str:
    if shutil.which(command[0]) is None and not os.environ.get("CI"):
        pytest.skip(f"{command[0]} missing")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_it_needs_no_other_library() -> None:
    dynamic = output("readelf", "-dW", str(LIBRARY))
    assert "(INIT_ARRAY)" in dynamic
    assert "(NEEDED)" not in dynamic


def test_it_takes_little_from_the_program() -> None:
    undefined = [line.split()[-1] for line in output("nm", "-uD", str(LIBRARY)).splitlines()]
    assert sorted(undefined) == FROM_THE_PROGRAM


def test_it_offers_nothing() -> None:
    defined = [line for line in output("nm", "-D", "--defined-only", str(LIBRARY)).splitlines() if line.strip()]
    assert defined == []


def test_all_system_calls_are_in_the_range_that_dispatch_leaves_alone() -> None:
    symbols = {line.split()[-1]: int(line.split()[0], 16) for line in output("nm", str(LIBRARY)).splitlines()
               if len(line.split()) == 3}  # fmt: skip
    begin, end = symbols["stage_calls_begin"], symbols["stage_calls_end"]
    text = output("objdump", "-d", "--no-show-raw-insn", str(LIBRARY))
    calls = [int(place, 16) for place in re.findall(r"^ *([0-9a-f]+):\s+(?:syscall|svc|int|sysenter)\b", text, re.M)]
    assert 1 <= len(calls) <= 2
    assert all(begin <= place < end for place in calls)
    assert end - begin < 128


def test_it_leaves_vectors_to_the_program() -> None:
    text = output("objdump", "-d", "--no-show-raw-insn", str(LIBRARY))
    assert not re.search(r"%[xyz]mm\d", text)


@pytest.mark.skipif(platform.machine() == "aarch64", reason="it is built for this machine anyway")
def test_it_is_built_for_aarch64_as_well(tmp_path: Path) -> None:
    """With nothing missing that a compiler leaves to a C library there."""
    setup = (PACKAGE.parent / "setup.py").read_text()
    (call,) = re.findall(r"^stage = Extension\(.*?^\)", setup, re.MULTILINE | re.DOTALL)
    options = re.findall(r'"(-[^"]+)"', call)
    assert "-nostdlib" in options
    made = tmp_path / "stage.so"
    output("aarch64-linux-gnu-gcc", "-shared", "-fPIC", *options, str(PACKAGE / "stage" / "stage.c"), "-o", str(made))
    undefined = [line.split()[-1] for line in output("nm", "-uD", str(made)).splitlines()]
    assert sorted(undefined) == FROM_THE_PROGRAM


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_say_what_they_are_about(path: Path) -> None:
    first = path.read_text().partition("*/")[0]
    if path.name != "stage.h":
        assert "Theory." in first
        assert "Rules of this file" in first


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_include_only_what_every_c_library_has_in_common(path: Path) -> None:
    """The kernel's headers and the compiler's own."""
    for name in re.findall(r"^#include <(.*)>", path.read_text(), re.M):
        assert name.startswith(("asm/", "linux/")) or name in ("stddef.h", "stdint.h")
