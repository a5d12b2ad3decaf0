"""Why execve(2) would fail for a program, found in its files: the program, its interpreters, its dynamic linker.

Also why env(1) would not find the interpreter of a script. Nothing here starts a process. A file that cannot be read
counts as sound: execve(2) needs no right to read.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from fastinetd.plan.holdable import SCRIPT_HEAD, Elf, Unholdable, find_bar, read_elf

SCRIPTS_MOST = 5
"""Scripts that may be each other's interpreters: with one more execve(2) fails with ELOOP."""

PATH_OF_NONE = "/bin:/usr/bin"
"""Folders in which execvp(3) looks for a program without PATH."""


_PROGRAMS = (2, 3)  # e_type: ET_EXEC, ET_DYN
_PREDECESSORS = {62: 3, 183: 40, 21: 20, 43: 2}
"""e_machine of 64 bits -> that of 32: x86-64 and 386, AArch64 and ARM, PowerPC, SPARC."""


def exec_fault(path: str, ids: tuple[int, int], groups: Collection[int], search: str | None = None) -> str | None:
    """Why execve(2) by a user fails for a program, as text with the errno's name; None when it does not.

    `ids` are the user's uid and gid, `groups` the supplementary groups, `search` the PATH of the program, in which
    env(1) looks for the interpreter of a script.
    """
    for _ in range(SCRIPTS_MOST + 1):
        if fault := _file_fault(path, ids, groups):
            return fault
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - bytes of a path of the configuration
                head = file.read(SCRIPT_HEAD)
        except OSError:
            return None
        if not head.startswith(b"#!"):
            return _image_fault(path, head, ids, groups)
        words = head[2:].partition(b"\n")[0].split(None, 1) if head[2:].strip(b" \t\n") else []
        if not words:
            return f"its #! line names no interpreter (ENOEXEC): {path}"
        name = os.fsdecode(head[2:].partition(b"\n")[0].strip(b" \t").replace(b"\t", b" ").partition(b" ")[0])
        if not os.path.exists(name):
            carriage = ", a carriage return is at the end of that line" if name.endswith("\r") else ""
            return f"there is no interpreter {name!r} (ENOENT), which {path} names after #!{carriage}"
        if os.path.basename(name) == "env" and (fault := _env_fault(path, head, ids, groups, search)):
            return fault
        path = name
    return "its #! lines lead through too many scripts (ELOOP)"


def _env_fault(
    path: str, head: bytes, ids: tuple[int, int], groups: Collection[int], search: str | None
) -> str | None:
    """Why env(1) does not find a script's interpreter; None when it does. But for -S all behind `env` is one word."""
    argument = os.fsdecode(head[2:].partition(b"\n")[0].strip().partition(b" ")[2].strip())
    words = argument[2:].split() if argument.startswith("-S") else [argument] if argument else []
    name = next((word for word in words if "=" not in word), "")
    if not name or name.startswith("-"):  # nothing, or another option of env, which is not checked
        return None
    folders = [""] if "/" in name else (PATH_OF_NONE if search is None else search).split(":")
    for folder in folders:
        found = os.path.join(folder, name)  # noqa: PTH118
        if Path(found).is_file() and os.access(found, os.X_OK) and _file_fault(found, ids, groups) is None:
            return None
    where = "its path" if "/" in name else f"the PATH {':'.join(folders)!r} of the server"
    hint = "; env -S takes several words" if " " in name else ""
    return f"env finds no {name!r} by {where} and ends with status 127: {path}{hint}"


def _file_fault(path: str, ids: tuple[int, int], groups: Collection[int]) -> str | None:
    """Why execve(2) by a user fails for a file, whatever is in it; None when it does not."""
    where = find_bar(path, ids, groups, execute=True)
    if where is not None:
        return f"uid {ids[0]} may not {'execute it' if where == path else f'pass {where}'} (EACCES): {path}"
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
        if not stat.S_ISREG(mode):
            return f"it is not a file (EACCES): {path}"
        if not mode & 0o111:  # root needs one of the three bits
            return f"nobody may execute it (EACCES): {path}"
        if os.statvfs(path).f_flag & os.ST_NOEXEC:
            return f"it is on a file system that is mounted noexec (EACCES): {path}"
    except OSError:
        return None
    return f"somebody has it open for writing (ETXTBSY): {path}" if _is_written(path) else None


def _is_written(path: str) -> bool:
    """Whether a file is open for writing: then F_SETLEASE (fcntl(2)) by its owner or root fails with EAGAIN.

    The lease is given up at once. Whoever opens the file before that causes a signal here: SIGURG, which is ignored.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def _has_headers(path: str, head: bytes) -> bool:
    """Whether a 64-bit little-endian ELF file reaches to the end of its program headers; True for other ELF files."""
    if head[4] != 2 or head[5] != 1:
        return True
    (first,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
    return bool(os.stat(path).st_size >= first + size * count)  # noqa: PTH116 - bytes of a configured path


def _is_foreign(elf: Elf) -> bool:
    """Whether an ELF program is for another machine than this process's, and binfmt_misc has nothing that might run it.

    A 64-bit kernel may run the programs of its 32-bit predecessor.
    """
    own = read_elf("/proc/self/exe")
    machine = elf.kind[2]
    if own is None or machine in (own.kind[2], _PREDECESSORS.get(own.kind[2])):
        return False
    with suppress(OSError):
        return not set(os.listdir("/proc/sys/fs/binfmt_misc")) - {"register", "status"}
    return True


def _image_fault(path: str, head: bytes, ids: tuple[int, int], groups: Collection[int]) -> str | None:
    """Why execve(2) by a user fails for the content of a file that is no script; None when it does not."""
    if not head:
        return f"{path} is empty (ENOEXEC)"
    try:
        elf = read_elf(path)
    except Unholdable:
        return None
    if elf is None or not _has_headers(path, head):
        if head.startswith(b"\x7fELF"):
            return f"{path} is not a whole ELF program (ENOEXEC)"
        return f"{path} is neither an ELF program nor begins with #! (ENOEXEC)"
    if int.from_bytes(head[16:18], "little" if head[5] == 1 else "big") not in _PROGRAMS:
        return f"{path} is an ELF file, but no program (ENOEXEC)"
    if _is_foreign(elf):
        return f"{path} is for another kind of machine, and no emulator is known here (ENOEXEC)"
    if elf.linker is not None and not os.path.exists(elf.linker):
        return f"there is no dynamic linker {elf.linker} (ENOENT), which {path} needs"
    return None if elf.linker is None else _file_fault(elf.linker, ids, groups)
