"""Listeners with timers that go off when a test says so."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from fastinetd.plan.endpoints import has_ipv6
from fastinetd.plan.model import Endpoint, SocketOptions
from fastinetd.services.listeners import Listeners, ListenRequest

NONE = SocketOptions()

V6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


class Alarm:
    """A timer that goes off when told to."""

    def __init__(self, seconds: float, callback: Callable[[], None] | None) -> None:
        self.seconds = seconds
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None


class Clockwork:
    """The loop's timers, as far as Listeners use them."""

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []

    def later(self, seconds: float, callback: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(seconds, callback))
        return self.alarms[-1]

    def pending(self) -> list[float]:
        return [alarm.seconds for alarm in self.alarms if alarm.callback is not None]

    def ring(self) -> None:
        """Let everything that is due at some time be due now."""
        due, self.alarms = self.alarms, []
        for alarm in due:
            if alarm.callback is not None:
                alarm.callback()


class Said:
    """Messages by level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[[str], None]:
        return lambda text: None if level == "debug" else self.lines.append((level, text))

    def take(self) -> list[tuple[str, str]]:
        lines, self.lines = self.lines, []
        return lines


class Kit:
    def __init__(self) -> None:
        self.loop = Clockwork()
        self.said = Said()
        self.opened_late = 0
        self.listeners = Listeners(self.loop, self.said)  # type: ignore[arg-type]
        self.listeners.opened_late = self._open_late

    def _open_late(self) -> None:
        self.opened_late += 1


def request(endpoint: Endpoint, options: SocketOptions = NONE) -> ListenRequest:
    return ListenRequest(endpoint, options, False, "web")


def tcp(port: int = 0, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(socket.AF_INET, socket.SOCK_STREAM, host, port)
