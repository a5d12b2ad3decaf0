"""The end of a role's process: what it leaves behind is adopted, however it ended."""

from __future__ import annotations

from fastinetd.core.board import Board
from fastinetd.services.children import Children
from fastinetd.services.closed_ports import ClosedPorts
from fastinetd.supervisor.roles import Role
from fastinetd.system.loop import Loop


class RoleEnds:
    """Takes over the servers, connections and closed ports of roles that have ended."""

    def __init__(self, board: Board, loop: Loop, children: Children, closed_ports: ClosedPorts) -> None:
        self._board = board
        self._loop = loop
        self._children = children
        self._closed_ports = closed_ports

    def settle(self, role: Role, status: int) -> None:
        """Adopt what is left of a role's process that has ended with this wait status."""
        if role.section is not None:
            handed = self._children.adopt(role.section, crashed=role.spec.crashed(status))
            if handed:
                role.when_closed(self._loop, lambda: self._children.find_holders(handed))
            self._board.section_release(role.section)
        if status != 0:
            self._closed_ports.reopen_orphaned()
        self._children.reap()
