"""What /proc tells of processes and sockets, and waiting for what will be true."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

PATIENCE = 20.0
"""Seconds after which something that should happen counts as not happening."""

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: object, timeout: float = PATIENCE) -> T:
    """Wait for a true value of condition() and return it; fails when there is none. `what` is shown then: text, or a
    function that makes it."""
    end = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what() if callable(what) else what}")
        pause.wait(0.01)


@dataclass(frozen=True)
class Process:
    """A line of /proc/PID/stat, as far as it is needed here."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    nice: int
    ticks: int
    """CPU time used, with that of children waited for."""

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"


def process(pid: int) -> Process | None:
    """What runs as `pid`; None when nothing does."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    before, _, after = text.rpartition(")")
    f = after.split()
    return Process(
        pid, before.partition("(")[2], f[0], int(f[1]), int(f[2]), int(f[3]), int(f[16]), sum(map(int, f[11:15]))
    )


def processes() -> dict[int, Process]:
    found = (process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {each.pid: each for each in found if each is not None}


def below(root: int) -> dict[int, Process]:
    """All descendants of a process."""
    table = processes()
    found: dict[int, Process] = {}
    frontier = {root}
    while frontier:
        frontier = {pid for pid, each in table.items() if each.parent in frontier and pid not in found}
        found.update({pid: table[pid] for pid in frontier})
    return found


def title(pid: int) -> str:
    """The command line; what a process that names itself is called."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def program(pid: int) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/exe").readlink())
    return ""


def descriptors(pid: int) -> dict[int, str]:
    """Descriptor -> what it is; empty when the process is gone."""
    found = {}
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found[int(name)] = str(Path(f"/proc/{pid}/fd/{name}").readlink())
    return found


def asleep(pid: int) -> bool:
    """Whether a process waits in the kernel for something to happen (none that is just starting does)."""
    each = process(pid)
    return each is not None and each.state == "S"


def reap(pid: int) -> None:
    """Reap an ended process that came back to this one as an orphan; another process's child is left alone."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def adopt_orphans(yes: bool = True) -> None:
    """From now on whatever loses its parent below this process comes back to it (PR_SET_CHILD_SUBREAPER), or not."""
    ctypes.CDLL(None, use_errno=True).prctl(36, int(yes), 0, 0, 0)


class Offspring:
    """What this process has below it from now on: orphans come back to it, and at the end all of it is killed and
    reaped. An orphan that another process reaps leaves a pid that may be somebody else's by the time it is killed."""

    def __init__(self) -> None:
        self._before = set(below(os.getpid()))
        adopt_orphans()

    def end(self) -> None:
        while left := [pid for pid in below(os.getpid()) if pid not in self._before]:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in left:
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        adopt_orphans(False)


# ---- sockets ----


def listeners(kind: str = "tcp") -> dict[int, set[str]]:
    """Port -> inodes of listening TCP or bound UDP sockets of both families."""
    found: dict[int, set[str]] = {}
    wanted = {"tcp": "0A", "udp": "07"}[kind]
    for name in (kind, f"{kind}6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                f = line.split()
                if f[3] == wanted:
                    found.setdefault(int(f[1].rpartition(":")[2], 16), set()).add(f[9])
    return found


def listens(port: int, kind: str = "tcp") -> bool:
    return port in listeners(kind)
