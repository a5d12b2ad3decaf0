"""Processes as the kernel shows them in /proc, and what prctl(2) sets for this one."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PR_SET_NO_NEW_PRIVS = 38
PR_SET_CHILD_SUBREAPER = 36
PR_SET_DUMPABLE = 4


def prctl(option: int, argument: int) -> None:
    """prctl(2) with one argument; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def parent_of(pid: int) -> int | None:
    """The parent of a process, or None when it is gone."""
    return _stat(pid, 4)


def started_at(pid: int) -> int:
    """When a process was started, in the kernel's clock ticks since the machine was; 0 when it is gone."""
    return _stat(pid, 22) or 0


def _stat(pid: int, field: int) -> int | None:
    """A field of /proc/PID/stat after the name, as proc_pid_stat(5) numbers them; None when the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[field - 3])
    except (OSError, IndexError, ValueError):
        return None


GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""What is raised for a process that has ended, or that this one may not look into."""


def children() -> list[int]:
    """The pids of this process's children (proc_tid_children(5), or a look at all processes); without /proc there
    are none to be found."""
    try:
        tasks = Path("/proc/self/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except FileNotFoundError:
        everybody = [int(name) for name in os.listdir("/proc") if name.isdecimal()] if Path("/proc").is_dir() else []
        return [pid for pid in everybody if parent_of(pid) == os.getpid()]


def sockets_of(pid: int) -> Iterator[int]:
    """The inodes of a process's sockets. Raises OSError if there is no descriptor to see them by."""
    with suppress(*GONE):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(*GONE):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    yield int(target[len("socket:[") : -1])


def descriptor_limit(pid: int) -> float | None:
    """The soft limit of open files of a process (proc_pid_limits(5)); None where it cannot be read."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/limits").read_bytes().splitlines():
            if line.startswith(b"Max open files"):
                return float(line.split()[3])
    return None
