"""How the daemon ends: SIGTERM takes its servers with it, SIGQUIT leaves them running."""

from __future__ import annotations

import signal
import time

from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.service_log import ServiceLog
from fastinetd.services.children import Children
from fastinetd.services.installed import InstalledServices
from fastinetd.services.journal_reader import JournalReader
from fastinetd.supervisor.options import Options
from fastinetd.supervisor.status import Status
from fastinetd.supervisor.succession import Succession
from fastinetd.system.loop import Loop

SERVERS_END_WITHIN = 5.0
"""Seconds that servers have after SIGTERM before the daemon leaves without them."""

ROLES_LEAVE_WITHIN = 2.0
"""Seconds that roles have to leave before they are killed."""

LOOK_FOR_SERVERS, LOOK_FOR_ROLES = 0.05, 0.01
"""Seconds between two looks at who is still there."""


class Departure:
    """Ends the daemon."""

    def __init__(self, options: Options, board: Board, loop: Loop, messages: DaemonLog, services: InstalledServices,
                 children: Children, succession: Succession, journal_reader: JournalReader, log: ServiceLog,
                 status: Status) -> None:
        self._options = options
        self._board = board
        self._loop = loop
        self._messages = messages
        self._services = services
        self._children = children
        self._succession = succession
        self._journal_reader = journal_reader
        self._log = log
        self._status = status
        self._signalled: set[int] = set()
        self._servers_end_by = 0.0
        self._leaving = False

    def terminate(self) -> None:
        """SIGTERM: take no more connections, signal every server, and leave when they have ended or time is up."""
        if self._succession.serving is None:
            return
        try:
            self._stop_serving()
        finally:  # whatever went wrong, the daemon ends
            self._servers_end_by = time.monotonic() + SERVERS_END_WITHIN
            self._end_servers()

    def _end_servers(self) -> None:
        """Signal the servers that have not been; leave once there are none, or time is up."""
        left = [slot for slot in self._board.slots_in_use() if slot.pid]
        new = {slot.pid for slot in left} - self._signalled  # acceptors finish what they have in hand: more may come
        for pid in new:
            self._signalled.add(pid)
            self._children.signal(pid, signal.SIGTERM)
        if left and time.monotonic() < self._servers_end_by:
            self._loop.later(LOOK_FOR_SERVERS, self._end_servers)
            return
        for slot in left:
            self._messages.warning(f"server with pid {slot.pid} did not end on SIGTERM and is left running")
        self.leave()

    def leave(self) -> None:
        """SIGQUIT, and the end of SIGTERM: go, and leave running servers alone."""
        if not self._leaving:
            self._leaving = True
            try:
                self._stop_serving()
            finally:
                self._await_roles(time.monotonic() + ROLES_LEAVE_WITHIN)

    def _await_roles(self, until: float) -> None:
        """Stop the loop once all roles have left, or are killed because time is up; their last records are written."""
        if any(generation.roles for generation in self._succession) and time.monotonic() < until:
            self._loop.later(LOOK_FOR_ROLES, lambda: self._await_roles(until))
            return
        for generation in self._succession:
            for pid in generation.roles:
                self._children.signal(pid, signal.SIGKILL)
        while self._journal_reader.read():
            pass
        self._services.finish()
        self._messages.info("Exiting...")
        self._log.close()
        self._loop.stop()

    def _stop_serving(self) -> None:
        self._status.stopping()
        self._succession.abandon()
        if self._options.metrics is not None:
            self._options.metrics.close()
        self._options.stopping()
