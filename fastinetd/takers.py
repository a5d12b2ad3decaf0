"""Who has the connections that a dead acceptor had given to its pools, and of which it heard no more.

Theory. Whoever takes such a connection says so to the acceptor before he touches it, and ends if he cannot. So when
the acceptor is dead either nobody has it, or a child of the acceptor's that is the supervisor's now; which, the kernel
knows (proc_pid_fd(5)): its inode is written in the slot. One that has served and ended before it is looked for has
nothing open any more: its client was served, and there is no record of it. One that has several has taken none: it is
what the acceptor was just starting, and has its low descriptors until exec.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from fastinetd.roles import parent_of, started_at


def children() -> list[int]:
    """The pids of this process's children (proc_tid_children(5), or a look at all processes)."""
    try:
        tasks = Path("/proc/self/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except FileNotFoundError:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and parent_of(int(name)) == os.getpid()]


def _sockets(pid: int) -> Iterator[int]:
    """The inodes of a process's sockets."""
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    yield int(target[len("socket:[") : -1])


def takers(handed: Iterable[tuple[int, int]], known: Iterable[int]) -> dict[int, int]:
    """Slot -> pid of the child that has its connection. `handed` are slots and inodes; children that are `known` have
    others."""
    slots = {inode: slot for slot, inode in handed if inode}
    found: dict[int, int] = {}
    if slots:
        # A zygote may still have what its fork has taken: the fork comes later, and counts.
        for pid in sorted(set(children()) - set(known), key=lambda pid: (started_at(pid), pid)):
            held = {slots[inode] for inode in _sockets(pid) if inode in slots}
            if len(held) == 1:
                found[held.pop()] = pid
    return found
