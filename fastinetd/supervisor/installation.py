"""One Plan in the place of another: services, listeners, logs and roles, as a whole or not at all.

Theory. Installing opens the listeners that are missing, writes limits on the Board, forks a new generation and retires
the old one; listeners, rows and running servers that both plans have stay as they are. If anything of it cannot be had,
all is put back: the plan before is in use as if nothing had been tried.

Rules of this file: `install` is the only way in which the plan in use changes.
"""

from __future__ import annotations

import os
import signal

from fastinetd.logs.format import LoggedService
from fastinetd.logs.service_log import ServiceLog
from fastinetd.plan.model import Endpoint, Mode, Plan
from fastinetd.services.children import Children
from fastinetd.services.installed import InstalledService, InstalledServices
from fastinetd.services.listeners import Listeners, ListenRequest
from fastinetd.services.wait_services import WaitServices
from fastinetd.supervisor.duty_roster import DutyRoster
from fastinetd.supervisor.removals import Removals
from fastinetd.supervisor.succession import Succession
from fastinetd.supervisor.takeover import Takeover


class Installation:
    """The plan in use. There is one from the beginning, without services."""

    def __init__(self, services: InstalledServices, listeners: Listeners, roster: DutyRoster, log: ServiceLog,
                 children: Children, wait_services: WaitServices, removals: Removals, takeover: Takeover,
                 succession: Succession) -> None:
        self._services = services
        self._listeners = listeners
        self._roster = roster
        self._log = log
        self._children = children
        self._wait_services = wait_services
        self._removals = removals
        self._takeover = takeover
        self._succession = succession
        self.plan = Plan()

    def install(self, plan: Plan) -> int:
        """Make `plan` the one in use; returns how many services that removes. Raises OSError, MemoryError and Unready,
        with everything as it was."""
        before = [*self._services]
        removed = self._services.install(plan)
        try:
            dropped = self._listen(plan)
            misplaced = self._wait_services.misplaced_servers(self._roster.listening(self._services), removed)
            self._configure_log()
            self._succession.replace()
        except BaseException:
            self._see_off(self._services.put_back(before, self.plan), self._listen(self.plan), self.plan)
            self._configure_log()
            self._takeover.serve_wait_sockets(self._succession.retiring)
            raise
        for pid in misplaced:
            self._children.signal(pid, signal.SIGTERM)
        self._see_off(removed, dropped, plan)
        self.plan = plan
        return len(removed)

    def _listen(self, plan: Plan) -> set[Endpoint]:
        """Open what a plan listens on; returns the open endpoints that it does not want."""
        self._removals.take_back({installed.row for installed in self._services})
        return self._listeners.want(
            ListenRequest(endpoint, planned.options, planned.mode is Mode.WAIT, planned.id)
            for planned in plan.services
            for endpoint in planned.endpoints
        )

    def _see_off(self, removed: list[InstalledService], dropped: set[Endpoint], plan: Plan) -> None:
        """Close endpoints that no service has, and begin the removal of the services that are not in `plan`."""
        self._wait_services.withdraw(sock for endpoint in dropped for sock in self._listeners.sockets_of(endpoint))
        self._listeners.drop(dropped)
        self._removals.begin(removed, plan, tuple(self._succession.retiring))

    def _configure_log(self) -> None:
        self._log.configure({
            row: LoggedService(planned.id, planned.service.log_type, os.fsdecode(planned.exec_context.path))
            for row, planned in ((installed.row, installed.planned) for installed in self._services)
        })
