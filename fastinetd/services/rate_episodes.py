"""Episodes: times in which clients of a service wait because its rate is used up, and the messages about them.

Theory. An acceptor that finds the first client waiting writes a RATE_WAIT record, once until the queue is empty again.
Under a load about as high as the rate that may be several times in a second; so here an episode lasts until no client
has waited for EPISODE_ENDS_AFTER seconds. One message says that it has begun, one what it came to, by the Board's
counters.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastinetd.config.model import Service
from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.lines import Level, printable_line
from fastinetd.services.installed import InstalledServices
from fastinetd.system.loop import Loop

EPISODE_ENDS_AFTER = 10.0
"""Seconds without a waiting client that end an episode."""


@dataclass(slots=True)
class _Logged:
    """A service, and its counters as they were at the last message about it."""

    id: str
    waits: int = 0
    seconds: float = 0.0
    open: bool = False  # an episode is on
    filled_anew: bool = False  # a client has begun to wait since the last look


class Episodes:
    """Logs when clients of a service begin to wait for its rate, and when that is over."""

    def __init__(self, board: Board, loop: Loop, services: InstalledServices, messages: DaemonLog) -> None:
        self._board = board
        self._loop = loop
        self._services = services
        self._messages = messages
        self._logged: dict[int, _Logged] = {}

    def client_waits(self, row: int) -> None:
        """A client of a row's service begins to wait for its rate (a RATE_WAIT record)."""
        installed = self._services.by_row.get(row)
        if installed is None:
            return
        logged = self._logged.get(row)
        if logged is None or logged.id != installed.planned.id:
            logged = self._logged[row] = _Logged(installed.planned.id)
        logged.filled_anew = True
        if not logged.open:
            logged.open = True
            self._messages.log(Level.WARNING, began_text(installed.planned.service))
            self._loop.later(EPISODE_ENDS_AFTER, lambda: self._look_at_queue(row, logged))

    def _look_at_queue(self, row: int, logged: _Logged) -> None:
        """Log that an episode is over, or look again later."""
        installed = self._services.by_row.get(row)
        if installed is None or installed.planned.id != logged.id:
            self._logged.pop(row, None)
            return
        if logged.filled_anew or self._board.row_awaits_rate(row):
            logged.filled_anew = False
            self._loop.later(EPISODE_ENDS_AFTER, lambda: self._look_at_queue(row, logged))
            return
        counters = self._board.counters(row)
        waits, seconds = counters.rate_waits, counters.rate_wait_ns / 1e9
        if waits < logged.waits:  # the service was removed and has come back
            logged.waits, logged.seconds = 0, 0.0
        text = ended_text(installed.planned.service, waits - logged.waits, seconds - logged.seconds)
        logged.waits, logged.seconds, logged.open = waits, seconds, False
        self._messages.log(Level.NOTICE, text)


def began_text(service: Service) -> str:
    """The line of the log for the begin of an episode."""
    rate, name = service.rate, _rate_attribute(service)
    number = "" if rate is None else f" of {rate.count} in {rate.seconds:g} s"
    default = "" if "cps" in service.places else ", the default,"
    return (
        f"service {printable_line(service.id)}: its rate of starts{number}{default} is used up, "
        f"clients wait in the queue; "
        f"set a higher {name} if they should not, or over_rate = refuse if they should be told at once"
    )


def ended_text(service: Service, waits: int, seconds: float) -> str:
    """The line of the log for the end of an episode in which so many clients waited."""
    clients = "1 client" if waits == 1 else f"{waits} clients"
    return f"service {printable_line(service.id)}: nobody waits for its rate now; {clients} did, in {seconds:.1f} s"


def _rate_attribute(service: Service) -> str:
    """What sets a service's rate: in inetd.conf it is per minute, and a number after the word wait or nowait."""
    return "cps" if service.rate is None or service.rate.seconds == 1 else "number after nowait"
