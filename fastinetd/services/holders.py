"""Which process has a connection that a dead acceptor had given to its pools, and of which it heard no more.

Theory. A process of a pool that takes a connection says so to the acceptor before it touches the client, and ends if it
cannot say so. It can as long as any process has the acceptor's sockets open: the acceptor itself, or a process that it
was just starting when it died. So once all those are closed (system/last_reader) either no process has the connection,
and none will have it, even one that finds it in its socket later; or a child of the acceptor has it, which is the
supervisor's child now. The kernel shows which (proc_pid_fd(5)), by the connection's inode, which is in the slot. A
child that has served the client and ended, or has closed the connection, before it is looked for has nothing open any
more: its client was served, and there is no record of it. A child that has several of the connections has taken none:
it was about to be started and never came to exec.

A worker need not be looked for: its pid is in the slot before it is sent the connection, which it may take at any time.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastinetd.core.records import HandedConnection
from fastinetd.system.processes import list_children, socket_inodes_of, start_time_of


def holders_of(handed: Iterable[HandedConnection], known: Iterable[int]) -> dict[int, int]:
    """Slot -> pid of the child that has the slot's connection, for those `handed`; children in `known` have others.
    Raises OSError when there is no descriptor or memory to look with."""
    slots = {connection.inode: connection.slot for connection in handed if connection.inode}
    holders: dict[int, int] = {}
    if slots:
        # A zygote may still have what its fork has taken: the fork comes later, and counts.
        for pid in sorted(set(list_children()) - set(known), key=lambda pid: (start_time_of(pid), pid)):
            connections = {slots[inode] for inode in socket_inodes_of(pid) if inode in slots}
            if len(connections) == 1:
                holders[connections.pop()] = pid
    return holders
