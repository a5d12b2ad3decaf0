"""The supervisor's questions to the doorman: may this sender of a datagram, by its name, start a wait service's server?

Theory. The channel belongs to a generation; with the next one comes another, and what is unanswered is asked again
there. A doorman that died is asked again too, until time is up: then there is no answer.

Rules of this file: it borrows the channel. Every question ends in exactly one call of its callback, with True, False
or, for no answer, None.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from fastinetd.doorman.protocol import ANSWER, ANSWER_WITHIN, ASK_AGAIN, QUESTION, Family, Reply
from fastinetd.system.loop import Loop, Timer
from fastinetd.system.strangers import receive_message

Callback = Callable[[bool | None], None]


@dataclass
class Asked:
    message: bytes
    callback: Callback
    left: float  # seconds until there is no answer
    timer: Timer | None = None


class DoormanClient:
    """Open questions of the supervisor."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._channel: socket.socket | None = None
        self._cookies = count(1)
        self._open: dict[int, Asked] = {}

    def use(self, channel: socket.socket | None) -> None:
        """Ask through this channel from now on (None: there is no doorman)."""
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
        self._channel = channel
        if channel is not None:
            self._loop.watch(channel.fileno(), self._answers)
        for asked in self._open.values():
            self._send(asked)

    def ask(self, row: int, address: bytes, callback: Callback) -> None:
        """Ask about a client of `row`; `address` has 4 or 16 bytes."""
        cookie = next(self._cookies)
        family = Family.IPV4 if len(address) == 4 else Family.IPV6
        message = QUESTION.pack(cookie, row, family, 0, address.ljust(16, b"\0"))
        asked = self._open[cookie] = Asked(message, callback, ANSWER_WITHIN)
        self._send(asked)
        asked.timer = self._loop.later(ASK_AGAIN, lambda: self._overdue(cookie))

    def _send(self, asked: Asked) -> None:
        if self._channel is not None:
            with suppress(OSError):
                self._channel.send(asked.message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _overdue(self, cookie: int) -> None:
        asked = self._open[cookie]
        asked.left -= ASK_AGAIN
        if asked.left > 0:
            self._send(asked)
            asked.timer = self._loop.later(ASK_AGAIN, lambda: self._overdue(cookie))
        else:
            del self._open[cookie]
            asked.callback(None)

    def _answers(self, _: int) -> None:
        assert self._channel is not None
        try:
            message = receive_message(self._channel, ANSWER.size)
        except BlockingIOError:
            return
        except OSError:  # descriptors came with it: no doorman says this
            message = b""
        if len(message) != ANSWER.size:
            self._loop.unwatch(self._channel.fileno())
            return
        cookie, reply = ANSWER.unpack(message)
        asked = self._open.pop(cookie, None)
        if asked is not None:
            if asked.timer is not None:
                asked.timer.cancel()
            asked.callback(reply == Reply.ALLOW)
