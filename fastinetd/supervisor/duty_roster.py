"""What there is to serve at any time: the services, each with the sockets that it listens on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence

from fastinetd import __version__
from fastinetd.core.program import Program
from fastinetd.monitor.metrics import ServiceInfo
from fastinetd.plan.model import Mode, has_zygotes, methods_of
from fastinetd.services.installed import InstalledService, InstalledServices
from fastinetd.services.listeners import Listeners
from fastinetd.services.wait_services import Listening
from fastinetd.stage.library import library_descriptor
from fastinetd.supervisor.duties import Duties
from fastinetd.supervisor.options import Options
from fastinetd.supervisor.role_specs import ROLES, RoleSpec


class DutyRoster:
    """Draws up the duties of a generation. `board_reader` is a descriptor of the Board for reading only (borrowed)."""

    def __init__(self, options: Options, services: InstalledServices, listeners: Listeners, board_reader: int) -> None:
        self._acceptors = options.acceptors
        self._metrics = options.metrics
        self._services = services
        self._listeners = listeners
        self._board_reader = board_reader

    def listening(self, services: Iterable[InstalledService]) -> list[Listening]:
        """Each open socket of `services`, with its service."""
        return [(each, sock) for each in services for sock in self._listeners.sockets_of_service(each.planned)]

    def wait_sockets(self) -> list[Listening]:
        """The wait services with each of their open sockets."""
        return self.listening(self._services.of_mode(Mode.WAIT))

    def duties(self) -> Duties:
        """The duties of a generation that is forked now."""
        services = self._services
        return Duties(
            acceptors=self._acceptors,
            programs={spec.kind: self._programs(spec) for spec in ROLES if spec.accepts is not None},
            tables={each.row: each.planned.access for each in services if each.planned.access.asks_names},
            asks_itself=any(installed.planned.access.asks_names for installed in services.of_mode(Mode.WAIT)),
            services=[info_of(each, self._listeners.sockets_of_service(each.planned)) for each in services],
            unserved=services.unserved,
            library=library_descriptor() if any(has_zygotes(installed.planned.pool) for installed in services) else -1,
            metrics=self._metrics.fileno() if self._metrics is not None else None,
            reader=self._board_reader,
            version=__version__,
        )

    def _programs(self, spec: RoleSpec) -> list[tuple[int, Program]]:
        """The listeners of services whose clients a role accepts, each with the program that it is for."""
        accepted = (each for each in self._services if spec.may_accept(each.planned))
        return [(sock.fileno(), each.program) for each, sock in self.listening(accepted)]


def info_of(installed: InstalledService, sockets: Sequence[socket.socket]) -> ServiceInfo:
    """What the monitor must know of a service that listens on these sockets (borrowed)."""
    planned = installed.planned
    stream = planned.service.socket_type == "stream"
    inodes = tuple(os.fstat(sock.fileno()).st_ino for sock in sockets) if stream else ()
    endpoints = tuple(map(str, planned.endpoints))
    methods = () if planned.mode is Mode.BUILTIN else methods_of(planned.pool)
    return ServiceInfo(installed.row, planned.id, stream, methods, inodes, planned.refused, endpoints)
