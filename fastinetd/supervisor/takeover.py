"""What passes from one generation to another beside the connections that its roles accept.

Theory. The supervisor itself serves the sockets of wait services, and asks the doorman of the generation that serves
about their clients. A socket that acceptors of an older generation have, because its service was one without wait, is
served from here only once the last of those acceptors has left: until then they may accept from it.

Rules of this file: its callers pass the generations that are retiring.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastinetd.doorman.client import DoormanClient
from fastinetd.services.listeners import Listeners
from fastinetd.services.wait_services import WaitServices
from fastinetd.supervisor.duty_roster import DutyRoster
from fastinetd.supervisor.generation import Generation
from fastinetd.supervisor.removals import Removals
from fastinetd.supervisor.roles import Role
from fastinetd.supervisor.status import Status


class Takeover:
    """Sees to wait services, removed services and listeners whenever generations change."""

    def __init__(self, roster: DutyRoster, wait_services: WaitServices, questions: DoormanClient, listeners: Listeners,
                 removals: Removals, status: Status) -> None:
        self._roster = roster
        self._wait_services = wait_services
        self._questions = questions
        self._listeners = listeners
        self._removals = removals
        self._status = status

    def generation_serves(self, generation: Generation, retiring: Iterable[Generation]) -> None:
        """Another generation is about to serve. Raises OSError when a socket cannot be watched."""
        self._status.count_generation()
        self.serve_wait_sockets(retiring)
        self._questions.use(generation.doorman_channel)

    def retired_role_left(self, role: Role, retiring: Iterable[Generation]) -> None:
        """A role of a generation that retires has ended, as it should."""
        self._removals.role_ended()
        if role.spec.starts_servers and not any(generation.may_start_servers for generation in retiring):
            self.serve_wait_sockets(retiring)
            self._listeners.retry_now()

    def serve_wait_sockets(self, retiring: Iterable[Generation]) -> None:
        """Serve the sockets of wait services, without those that retiring roles may still start servers for.
        Raises OSError."""
        taken = {fd for generation in retiring for fd in generation.server_listeners}
        self._wait_services.serve([each for each in self._roster.wait_sockets() if each[1].fileno() not in taken])

    def stop_asking(self) -> None:
        """The daemon leaves: the doorman is asked nothing more."""
        self._questions.use(None)

    def stop_listening(self) -> None:
        """The daemon leaves: close every listener, those of wait services included."""
        self._wait_services.serve([])
        self._listeners.close()
