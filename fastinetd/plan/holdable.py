"""Whether a program can be held before it begins, and who may read it, found in its files.

A library that the dynamic linker loads ahead of the program (LD_PRELOAD) holds it. So the program must be an ELF
program for this machine and its C library, or a script whose `#!` leads to one; the dynamic linker must load it; and
the kernel must not run it with more rights than its user has, for then the linker ignores the library.

Nothing here starts a process, and nothing is looked up but files.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

SCRIPT_DEPTH = 4
"""Scripts that may be each other's interpreters."""

SCRIPT_HEAD = 256
"""Bytes of a program in which the kernel looks for `#!` (BINPRM_BUF_SIZE)."""

_HEADERS_MOST = 65536  # bytes of program headers that the kernel accepts
_PT_INTERP = 3
_LAYOUTS = {1: ("IIIHHH", 28, "IIIIIIII", 1, 4), 2: ("QQIHHH", 32, "IIQQQQQQ", 2, 5)}
"""ELF class -> the fields from e_phoff to e_phnum and their offset; the fields of a program header and the indices of
p_offset and p_filesz among them."""

CAUSES = ("interpreter", "machine", "c_library", "static", "privileged", "unreadable")
"""The reasons for which a program cannot be held, a word for each."""


class Unholdable(Exception):
    """Raised for a program that cannot be held: `word` of CAUSES, `reason` and `remedy` as in messages."""

    def __init__(self, word: str, reason: str, remedy: str) -> None:
        super().__init__(word, reason, remedy)
        self.word, self.reason, self.remedy = word, reason, remedy


class Elf(NamedTuple):
    """The fields of an ELF file that decide whether it can be held."""

    kind: tuple[int, int, int]  # class, byte order, machine
    linker: str | None  # the dynamic linker; None: it is linked statically


def program_files(
    path: str, search: str, ids: tuple[int, int] = (0, 0), groups: Collection[int] = ()
) -> tuple[str, ...]:
    """The paths of the program and of the interpreters of its `#!` lines, of which the last one is held.

    `search` is the PATH of the program, `ids` its uid and gid, `groups` its supplementary groups. Raises Unholdable.
    """
    *scripts, last = chain = _interpreter_chain(path)
    program = last.path
    if os.path.basename(program) == "env":
        remedy = _remedy_for_env(scripts, _find_by_env(last.argument, search, ids, groups))
        raise Unholdable("interpreter", f"{program} only starts another program", remedy)
    elf = read_elf(program)
    if elf is None:
        reason = f"{program} is neither an ELF program nor begins with #!"
        raise Unholdable("interpreter", reason, "name its interpreter after #!")
    own = read_elf("/proc/self/exe")
    if own is not None and elf.kind != own.kind:
        raise Unholdable("machine", f"{program} is of another kind of machine", "install it for this one")
    if elf.linker is None:
        raise Unholdable("static", f"{program} is linked statically", "link it dynamically")
    # By name: a program that has a C library of its own, but of the same kind, has its linker elsewhere.
    if own is not None and own.linker is not None and os.path.basename(elf.linker) != os.path.basename(own.linker):
        reason = f"{program} is linked by {elf.linker}, of another C library"
        raise Unholdable("c_library", reason, "install it for this one")
    refuse_privileged(program)
    return tuple(file.path for file in chain)


def interpreted_files(path: str) -> tuple[str, ...]:
    """The paths of a program that is not held, as a worker, and of the interpreters of its `#!` lines.

    Raises Unholdable when the kernel runs it with more rights than its user's, and when it cannot be read.
    """
    files = tuple(file.path for file in _interpreter_chain(path))
    refuse_privileged(files[-1])
    return files


def refuse_privileged(path: str) -> None:
    """Raise Unholdable for a program that the kernel runs with other ids or capabilities than those of its user."""
    try:
        mode = Path(path).stat().st_mode
        capable = bool(os.getxattr(path, "security.capability"))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            reason = f"{path} cannot be looked at: {error.strerror}"
            raise Unholdable("unreadable", reason, "make it readable") from None
        capable = False
    if mode & stat.S_ISUID:
        raise Unholdable("privileged", f"{path} is set-uid", "take the bit away and write its owner as `user`")
    if mode & stat.S_ISGID and mode & stat.S_IXGRP:  # without the group's x this bit asks for mandatory locking
        raise Unholdable("privileged", f"{path} is set-gid", "take the bit away and write its group as `group`")
    if capable:
        raise Unholdable("privileged", f"{path} has file capabilities", "take them away (setcap -r)")


class _File(NamedTuple):
    """A program or interpreter of a chain."""

    path: str
    argument: str  # of the `#!` line that names the file


def _interpreter_chain(path: str) -> list[_File]:
    """The program, its interpreter, the interpreter of that, and so on. Raises Unholdable."""
    files = [_File(path, "")]
    while True:
        here = files[-1].path
        head = _read_bytes(here)[:SCRIPT_HEAD]
        if not head.startswith(b"#!"):
            return files
        if len(files) > SCRIPT_DEPTH + 1:
            reason = f"the #! lines of {path} lead through more than {SCRIPT_DEPTH} scripts"
            raise Unholdable("interpreter", reason, "name the last program")
        # As the kernel reads it: a path and one argument, with the blanks within the argument.
        line, newline, _ = head[2:].partition(b"\n")
        name, _, argument = line.replace(b"\t", b" ").strip(b" ").partition(b" ")
        if not name or (not newline and len(head) == SCRIPT_HEAD and not argument):
            raise Unholdable("interpreter", f"the #! line of {here} names no interpreter", "name one")
        if not name.startswith(b"/"):
            reason = f"the interpreter of {here} is not an absolute path"
            raise Unholdable("interpreter", reason, "write one after #!")
        files.append(_File(os.fsdecode(name), os.fsdecode(argument.strip())))


def _find_by_env(argument: str, search: str, ids: tuple[int, int], groups: Collection[int]) -> str | None:
    """The program that env(1) with this argument would start; None for none.

    As execvp(3) does, it passes over files that the user may not execute.
    """
    words = [word for word in argument.split() if not word.startswith("-") and "=" not in word]
    for folder in search.split(os.pathsep) if words else ():
        found = shutil.which(words[0], path=folder)
        if found is not None and find_bar(found, ids, groups, execute=True) is None:
            return found
    return None


def _remedy_for_env(scripts: list[_File], found: str | None) -> str:
    """What to write in place of env(1), which would start `found`."""
    if not scripts:
        return "write that program as `server`"
    return f"begin {scripts[-1].path} with #!{found or '/PATH/OF/ITS/INTERPRETER'}"


def read_elf(path: str) -> Elf | None:
    """The fields of an ELF file; None when it is not one. Raises Unholdable when it cannot be read."""
    head = _read_bytes(path)
    if head[:4] != b"\x7fELF" or len(head) < 64 or head[4] not in _LAYOUTS or head[5] not in (1, 2):
        return None
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", head, 18)
    kind = (head[4], head[5], machine)
    fields, at, header, offset, length = _LAYOUTS[head[4]]
    first, _, _, _, size, count = struct.unpack_from(order + fields, head, at)
    header_size = struct.calcsize(order + header)
    if size != header_size or size * count > _HEADERS_MOST:
        return None
    headers = _read_bytes(path, first, size * count)
    for entry in struct.iter_unpack(order + header, headers[: len(headers) // size * size]):
        if entry[0] == _PT_INTERP:
            linker = _read_bytes(path, entry[offset], min(entry[length], os.pathconf("/", "PC_PATH_MAX")))
            return Elf(kind, os.fsdecode(linker.partition(b"\0")[0]))
    return Elf(kind, None)


def _read_bytes(path: str, start: int = 0, size: int = SCRIPT_HEAD) -> bytes:
    """At most `size` bytes of a regular file from the offset `start` on. Raises Unholdable."""
    try:
        # O_NONBLOCK and O_NOCTTY: the path may lead to a FIFO or a terminal.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unholdable("unreadable", f"{path} is not a file", "name a program")
            return os.pread(descriptor, size, start)
        finally:
            os.close(descriptor)
    except (OSError, ValueError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Unholdable("unreadable", f"{path} cannot be read: {reason}", "make it readable") from None


def find_bar(path: str, ids: tuple[int, int], groups: Collection[int], *, execute: bool = False) -> str | None:
    """What keeps a user from reading (or executing) a file: the path of it or of a folder above; None for nothing.

    Looks along the path as it is written and along the one that its links lead to. A file or folder with an access
    list (acl(5)) counts as open: the list is not read.
    """
    if ids[0] == 0:
        return None
    target = Path(path)
    ways = (target, Path(os.path.realpath(path)))
    parents = dict.fromkeys(folder for way in ways for folder in reversed(way.parents))
    for each, bits in (*((folder, 1) for folder in parents), (target, 1 if execute else 4)):
        try:
            status = each.stat()
        except OSError:
            return str(each)
        shift = 6 if status.st_uid == ids[0] else 3 if status.st_gid == ids[1] or status.st_gid in groups else 0
        if not status.st_mode >> shift & bits and not _has_acl(each):
            return str(each)
    return None


def _has_acl(path: Path) -> bool:
    """Whether a file or folder has an access list (acl(5))."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False
