"""Who has the connections that a dead acceptor had given to its pools, and of which it heard no more.

Theory. Whoever takes such a connection says so to the acceptor before he touches it, and ends if he cannot. That he can
as long as anybody has the acceptor's sockets open: the acceptor, or a process that it was just starting when it died.
So once all those are closed (system/copies.py) either nobody has the connection and nobody will, whoever may still find
it in his socket; or a child of the acceptor's has it that is the supervisor's now. Which, the kernel knows
(proc_pid_fd(5)): its inode is written in the slot. One that has served and ended, or closed it, before it is looked for
has nothing open any more: its client was served, and there is no record of it. One that has several has taken none: it
was about to be started and never came to exec.

A worker need not be looked for: it is in the slot before it is sent the connection, and may take that at any time.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastinetd.system.processes import children, sockets_of, started_at


def holders_of(handed: Iterable[tuple[int, int]], known: Iterable[int]) -> dict[int, int]:
    """Slot -> pid of the child that has the slot's connection. `handed` are slots and inodes; children in `known` have
    other connections. Raises OSError when there is no descriptor or memory to look with."""
    slots = {inode: slot for slot, inode in handed if inode}
    found: dict[int, int] = {}
    if slots:
        # A zygote may still have what its fork has taken: the fork comes later, and counts.
        for pid in sorted(set(children()) - set(known), key=lambda pid: (started_at(pid), pid)):
            connections = {slots[inode] for inode in sockets_of(pid) if inode in slots}
            if len(connections) == 1:
                found[connections.pop()] = pid
    return found
