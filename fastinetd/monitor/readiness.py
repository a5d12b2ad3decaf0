"""The page /-/ready: whether all services listen, or those that are asked for; which do not, and why.

Rules of this file: the Board is only read. Services that could not be started are not on it; they are an argument.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import parse_qsl

from fastinetd.core.board import Board
from fastinetd.monitor.http import Answer, plain_answer
from fastinetd.monitor.metrics import ServiceInfo, label_value

Unserved = tuple[str, str]
"""The id of a service of the configuration that cannot be started, and why."""


class Readiness:
    """Answers /-/ready. `board` is borrowed, `unserved` are the services that could not be started."""

    def __init__(self, board: Board, services: Sequence[ServiceInfo], unserved: Sequence[Unserved]) -> None:
        self._board = board
        self._services = services
        self._unserved = unserved

    def answer(self, query: str) -> Answer:
        """The answer to a query: 200 when all services that it names listen, or all there are if it names none.

        Else 503 with a line for each that does not; 400 for a query that cannot be read, 404 for an unknown id.
        """
        try:
            asked = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
        except ValueError:
            asked = [("", "")]
        if any(name != "service" for name, _ in asked):
            return plain_answer(HTTPStatus.BAD_REQUEST, "write /-/ready or /-/ready?service=ID")
        wanted = {id for _, id in asked}
        if wanted - {label_value(info.id) for info in self._services} - {label_value(id) for id, _ in self._unserved}:
            return plain_answer(HTTPStatus.NOT_FOUND, "there is no service of that id")
        if not self._board.status()["ready"]:
            return plain_answer(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the daemon starts or stops")
        lines = [
            f"{label_value(id)}: {why}" for id, why in self._faults() if not wanted or label_value(id) in wanted
        ]
        if lines:
            return plain_answer(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(["not ready", *lines]))
        return plain_answer(HTTPStatus.OK, "ready")

    def _faults(self) -> list[Unserved]:
        """The services that do not listen now, and why."""
        return [(info.id, why) for info in self._services if (why := self._why_deaf(info))] + list(self._unserved)

    def _why_deaf(self, info: ServiceInfo) -> str | None:
        """Why a service does not listen on all its endpoints now; None when it does."""
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
