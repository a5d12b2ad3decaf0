"""What exec would say of a program, told before it is started; beside what exec says of it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastinetd.plan.executable import exec_fault

TRUE = Path("/bin/true").read_bytes()

FILES: dict[str, tuple[bytes, int, str]] = {
    "crlf": (b"#!/bin/sh\r\necho hi\r\n", errno.ENOENT, "carriage return"),
    "interpreter": (b"#!/no/such/interpreter\n", errno.ENOENT, "/no/such/interpreter"),
    "nothing": (b"#!\n", errno.ENOEXEC, "names no interpreter"),
    "plain": (b"echo hi\n", errno.ENOEXEC, "begins with #!"),
    "empty": (b"", errno.ENOEXEC, "is empty"),
    "mark": (b"\xef\xbb\xbf#!/bin/sh\n", errno.ENOEXEC, "begins with #!"),
    "truncated": (TRUE[:64], errno.ENOEXEC, "not a whole ELF"),
    "object": (TRUE[:16] + b"\1\0" + TRUE[18:], errno.ENOEXEC, "no program"),
    "foreign": (TRUE[:18] + b"\x2a\0" + TRUE[20:], errno.ENOEXEC, "another kind of machine"),  # SuperH
    "folder": (b"#!/etc\n", errno.EACCES, "not a file"),
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


ME = (os.geteuid(), os.getegid())


def test_what_is_being_written(tmp_path: Path) -> None:
    """The program itself, and the interpreter of a script."""
    program, script = tmp_path / "program", tmp_path / "script"
    shutil.copy("/bin/true", program)
    script.write_text(f"#!{program}\n")
    script.chmod(0o755)
    for path in (program, script):
        with program.open("ab"):
            assert exec_errno(path) == errno.ETXTBSY
            fault = exec_fault(str(path), ME, ())
        assert fault == f"somebody has it open for writing (ETXTBSY): {program}"
        assert exec_errno(path) == 0
        assert exec_fault(str(path), ME, ()) is None


def test_no_bit_for_anybody(tmp_path: Path) -> None:
    """Root may read it, and not execute it either."""
    script = tmp_path / "script"
    (tmp_path / "interpreter").write_bytes(Path("/bin/true").read_bytes())
    script.write_text(f"#!{tmp_path}/interpreter\n")
    script.chmod(0o755)
    assert exec_errno(script) == errno.EACCES
    assert "EACCES" in str(exec_fault(str(script), ME, ()))


def test_mounted_without_exec(root: None, tmp_path: Path) -> None:
    program = tmp_path / "program"
    text = f"mount -t tmpfs -o noexec none {tmp_path} && cp /bin/true {program} && echo | {sys.executable} -c '{LOOKS}'"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", f"{text} {program}"], capture_output=True, text=True)
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout == f"{errno.EACCES} it is on a file system that is mounted noexec (EACCES): {program}\n", done


LOOKS = """
import subprocess, sys
from fastinetd.plan.executable import exec_fault
try:
    subprocess.run([sys.argv[1]])
except OSError as error:
    print(error.errno, exec_fault(sys.argv[1], (0, 0), ()))
"""


@pytest.mark.parametrize(("line", "search", "fault"), [
    ("env sh", "/no/such:/bin", None), ("env sh", None, None), ("env -S sh -e", "/bin", None), ("env -i sh", "", None),
    ("env -S A=b sh", "/bin", None), ("env /bin/sh", "/no/such", None), ("env", "/no/such", None),
    ("env sh", "/no/such", "env finds no 'sh' by the PATH '/no/such' of the server and ends with status 127: "),
    ("env sh -e", "/bin", "env finds no 'sh -e' by the PATH '/bin' of the server and ends with status 127: "),
    ("env /no/such", "/bin", "env finds no '/no/such' by its path and ends with status 127: "),
])  # fmt: skip
def test_what_env_looks_for(tmp_path: Path, line: str, search: str | None, fault: str | None) -> None:
    """Beside what it does."""
    script = tmp_path / "script"
    script.write_text(f"#!/usr/bin/{line}\nexit 0\n")
    script.chmod(0o755)
    said = exec_fault(str(script), ME, (), search)
    if fault is None:
        assert said is None
    else:
        assert said is not None and said.startswith(f"{fault}{script}")
        environ = {} if search is None else {"PATH": search}
        assert subprocess.run([str(script)], env=environ, capture_output=True, check=False).returncode in (126, 127)
