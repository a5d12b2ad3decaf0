"""What keeps the kernel from executing a program, told from its files: the program, its interpreters, its linker.

Nothing here starts anything. What cannot be read is taken to be well: exec needs no right to read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection

from fastinetd.held import Unholdable, barred, read_elf

SCRIPTS_MOST = 5
"""Scripts that may be each other's interpreters; with one more exec says ELOOP."""

_HEAD = 256  # bytes the kernel looks at (BINPRM_BUF_SIZE)


def exec_fault(path: str, ids: tuple[int, int], groups: Collection[int]) -> str | None:
    """What exec would say of a program that runs as that user, and why; None when it is well."""
    for _ in range(SCRIPTS_MOST + 1):
        if fault := _file_fault(path, ids, groups):
            return fault
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - bytes of a path of the configuration
                head = file.read(_HEAD)
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
        path = name
    return "its #! lines lead through too many scripts (ELOOP)"


def _file_fault(path: str, ids: tuple[int, int], groups: Collection[int]) -> str | None:
    where = barred(path, ids, groups, execute=True)
    if where is None:
        return None
    return f"uid {ids[0]} may not {'execute it' if where == path else f'pass {where}'} (EACCES): {path}"


def _has_headers(path: str, head: bytes) -> bool:
    """Whether an ELF file of this machine's class is as long as the program headers that it tells of."""
    if head[4] != 2 or head[5] != 1:
        return True
    (first,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
    return bool(os.stat(path).st_size >= first + size * count)  # noqa: PTH116 - bytes of a configured path


def _image_fault(path: str, head: bytes, ids: tuple[int, int], groups: Collection[int]) -> str | None:
    """Of a file that is no script."""
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
    if elf.linker is not None and not os.path.exists(elf.linker):
        return f"there is no dynamic linker {elf.linker} (ENOENT), which {path} needs"
    return None if elf.linker is None else _file_fault(elf.linker, ids, groups)
