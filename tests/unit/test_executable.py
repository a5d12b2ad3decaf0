"""What exec would say of a program, told before it is started; beside what exec says of it."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from fastinetd.executable import exec_fault

FILES: dict[str, tuple[bytes, int, str]] = {
    "crlf": (b"#!/bin/sh\r\necho hi\r\n", errno.ENOENT, "carriage return"),
    "interpreter": (b"#!/no/such/interpreter\n", errno.ENOENT, "/no/such/interpreter"),
    "nothing": (b"#!\n", errno.ENOEXEC, "names no interpreter"),
    "plain": (b"echo hi\n", errno.ENOEXEC, "begins with #!"),
    "empty": (b"", errno.ENOEXEC, "is empty"),
    "mark": (b"\xef\xbb\xbf#!/bin/sh\n", errno.ENOEXEC, "begins with #!"),
    "truncated": (Path("/bin/true").read_bytes()[:64], errno.ENOEXEC, "not a whole ELF"),
    "script": (b"#! /bin/sh\nexit 0\n", 0, ""),
    "argument": (b"#!/usr/bin/env sh\nexit 0\n", 0, ""),
}


def exec_errno(path: Path) -> int:
    try:
        subprocess.run([str(path)], check=False)
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.mark.parametrize("name", FILES)
def test_what_exec_says(tmp_path: Path, name: str) -> None:
    content, number, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    path.chmod(0o755)
    assert exec_errno(path) == number
    fault = exec_fault(str(path), (os.geteuid(), os.getegid()), ())
    if number == 0:
        assert fault is None
    else:
        assert fault is not None
        assert words in fault
        assert errno.errorcode[number] in fault


def test_scripts_upon_scripts(tmp_path: Path) -> None:
    before = "/bin/sh"
    for number in range(7):
        path = tmp_path / str(number)
        path.write_text(f"#!{before}\n")
        path.chmod(0o755)
        fault = exec_fault(str(path), (os.geteuid(), os.getegid()), ())
        assert (exec_errno(path) == errno.ELOOP) == (fault is not None and "ELOOP" in fault), (number, fault)
        before = str(path)


def test_a_closed_folder_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "program").write_bytes(Path("/bin/true").read_bytes())
    (closed / "program").chmod(0o755)
    fault = exec_fault(str(closed / "program"), (os.geteuid() + 54321, os.getegid() + 54321), ())
    assert fault is not None
    assert "EACCES" in fault


def test_programs_that_are_well() -> None:
    for path in ("/bin/true", "/bin/sh"):
        assert exec_fault(path, (65534, 65534), ()) is None
