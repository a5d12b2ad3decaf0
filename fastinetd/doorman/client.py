"""The supervisor's questions to the doorman: may the sender of a datagram, by its name, start a wait service's server?

Theory. The channel belongs to a generation, and a question that is open at a reload is sent again through the channel
of the next. In case the doorman has died, an open question is also sent again every ASK_AGAIN seconds. One that is not
answered within ANSWER_WITHIN seconds ends without an answer.

Rules of this file: it borrows the channel. Every question ends in exactly one call of its callback, with True, False
or, for no answer, None.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from fastinetd.doorman.protocol import ANSWER, ANSWER_WITHIN, ASK_AGAIN, Reply, Subject
from fastinetd.system.loop import Loop, Timer
from fastinetd.system.strangers import receive_message

Callback = Callable[[bool | None], None]
"""Called with whether the client is allowed; None: there was no answer in time."""


@dataclass
class _Asked:
    """A question without an answer."""

    message: bytes
    callback: Callback
    left: float  # seconds until the question ends without an answer
    timer: Timer | None = None


class DoormanClient:
    """Sends the supervisor's questions to the doorman and receives its answers."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._channel: socket.socket | None = None
        self._cookies = count(1)
        self._open: dict[int, _Asked] = {}

    def use(self, channel: socket.socket | None) -> None:
        """Use a channel (borrowed; None: there is no doorman) from now on; open questions are sent there again."""
        if self._channel is not None:
            self._loop.unwatch(self._channel.fileno())
        self._channel = channel
        if channel is not None:
            self._loop.watch(channel.fileno(), self._receive_answer)
        for asked in self._open.values():
            self._send_question(asked)

    def ask(self, subject: Subject, callback: Callback) -> None:
        """Ask whether a client may use a service."""
        cookie = next(self._cookies)
        asked = self._open[cookie] = _Asked(subject.pack(cookie), callback, ANSWER_WITHIN)
        self._send_question(asked)
        asked.timer = self._loop.later(ASK_AGAIN, lambda: self._ask_again(cookie))

    def _send_question(self, asked: _Asked) -> None:
        """Send a question, if the channel has room; else it is sent again later."""
        if self._channel is not None:
            with suppress(OSError):
                self._channel.send(asked.message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _ask_again(self, cookie: int) -> None:
        """Send a question again, or end it without an answer."""
        asked = self._open[cookie]
        asked.left -= ASK_AGAIN
        if asked.left > 0:
            self._send_question(asked)
            asked.timer = self._loop.later(ASK_AGAIN, lambda: self._ask_again(cookie))
        else:
            del self._open[cookie]
            asked.callback(None)

    def _receive_answer(self, _: int) -> None:
        """Receive an answer and call its question's callback."""
        assert self._channel is not None
        try:
            message = receive_message(self._channel, ANSWER.size)
        except BlockingIOError:
            return
        except OSError:  # a message with descriptors, which the doorman does not send
            message = b""
        if len(message) != ANSWER.size:  # b"" at the end; the next generation's channel comes with `use`
            self._loop.unwatch(self._channel.fileno())
            return
        cookie, reply = ANSWER.unpack(message)
        asked = self._open.pop(cookie, None)
        if asked is not None:
            if asked.timer is not None:
                asked.timer.cancel()
            asked.callback(reply == Reply.ALLOW)
