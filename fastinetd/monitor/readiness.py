"""The page /-/ready: whether every service listens, or those that are asked for; which do not, and why.

Rules of this file: it reads the Board; what is not there, services that could not be started at all, comes with it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import parse_qsl

from fastinetd.core.board import Board
from fastinetd.monitor.http import Answer, plain
from fastinetd.monitor.metrics import ServiceInfo, printable

Unserved = tuple[str, str]
"""The id of a service that is configured and cannot be started, and why."""


class Readiness:
    """Answers what is ready. `board` is borrowed."""

    def __init__(self, board: Board, services: Sequence[ServiceInfo], unserved: Sequence[Unserved]) -> None:
        self._board = board
        self._services = services
        self._unserved = unserved

    def answer(self, query: str) -> Answer:
        """200 when all that is asked for listens, else 503 with a line for each service that does not."""
        try:
            asked = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
        except ValueError:
            asked = [("", "")]
        if any(name != "service" for name, _ in asked):
            return plain(HTTPStatus.BAD_REQUEST, "write /-/ready or /-/ready?service=ID")
        wanted = {id for _, id in asked}
        if wanted - {printable(info.id) for info in self._services} - {printable(id) for id, _ in self._unserved}:
            return plain(HTTPStatus.NOT_FOUND, "there is no service of that id")
        if not self._board.status()["ready"]:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the daemon starts or stops")
        lines = [
            f"{printable(id)}: {why}" for id, why in self._faults() if not wanted or printable(id) in wanted
        ]
        if lines:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(["not ready", *lines]))
        return plain(HTTPStatus.OK, "ready")

    def _faults(self) -> list[Unserved]:
        """The services that do not listen at this moment."""
        return [(info.id, why) for info in self._services if (why := self._why(info))] + list(self._unserved)

    def _why(self, info: ServiceInfo) -> str | None:
        if self._board.row_closed(info.row):
            return "its port is closed, more came than cps allows (over_rate = close)"
        deaf = self._board.row_deaf(info.row)
        if deaf is None:
            return None
        endpoint, number = deaf
        where = info.endpoints[endpoint] if endpoint < len(info.endpoints) else "one of its addresses"
        if not number:
            return f"{where} is about to be opened"
        return f"cannot listen on {where}: {os.strerror(number)} (errno = {errno.errorcode.get(number, number)})"
