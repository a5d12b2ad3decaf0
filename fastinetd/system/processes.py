"""Processes as /proc shows them, and prctl(2) for this one. Other modules read nothing of /proc/PID."""

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
    """Call prctl(2) with an option that takes one argument. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def parent_of(pid: int) -> int | None:
    """The pid of a process's parent; None when the process is gone."""
    return _read_stat(pid, 4)


def start_time_of(pid: int) -> int:
    """The time at which a process was started, in clock ticks since the machine was; 0 when the process is gone."""
    return _read_stat(pid, 22) or 0


def _read_stat(pid: int, field: int) -> int | None:
    """A field of /proc/PID/stat, numbered as in proc_pid_stat(5), from 3 on; None when the process is gone."""
    try:
        # The name of the process, field 2, is in parentheses and may have blanks and parentheses in it.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[field - 3])
    except (OSError, IndexError, ValueError):
        return None


GONE = (FileNotFoundError, ProcessLookupError, PermissionError)
"""The errors of /proc/PID for a process that has ended, or that this one may not inspect."""


def list_children() -> list[int]:
    """The pids of this process's children; [] without /proc.

    From /proc/self/task/TID/children, or from all processes where the kernel has no such file (CONFIG_PROC_CHILDREN).
    """
    try:
        tasks = Path("/proc/self/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except FileNotFoundError:
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()] if Path("/proc").is_dir() else []
        return [pid for pid in pids if parent_of(pid) == os.getpid()]


def socket_inodes_of(pid: int) -> Iterator[int]:
    """The inodes of a process's open sockets; none when it is gone. Raises OSError: EMFILE, ENFILE, ENOMEM."""
    with suppress(*GONE):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(*GONE):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    yield int(target[len("socket:[") : -1])


def descriptor_limit(pid: int) -> float | None:
    """The soft limit of open files of a process; None when it is unlimited or cannot be read."""
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/limits").read_bytes().splitlines():
            if line.startswith(b"Max open files"):
                return float(line.split()[3])
    return None


def count_own_descriptors() -> int:
    """The number of this process's open descriptors. Raises OSError."""
    return len(os.listdir("/proc/self/fd"))


def pid_in_proc() -> int | None:
    """The pid of this process in /proc, which is another than os.getpid() where /proc is of another PID namespace; None
    without /proc."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/self").readlink().name) if Path("/proc/self/fd").exists() else None
    return None


def read_own_status() -> dict[str, str]:
    """The fields of /proc/self/status (proc_pid_status(5)), by name; {} when it cannot be read."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}
