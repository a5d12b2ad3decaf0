"""How many servers a queue calls for that several of them share.

Theory. While servers run the queue is theirs, and what is in it has a grace pause to be taken in. A queue that was
empty at any of the looks during that pause has servers enough. One that was not calls for one server more; and the next
pause grows when the last server that was started has not helped: the first datagram or client of then is the first one
still. `called_for` is the number of servers that the queue has called for since it was empty last: when one of those
ends and something waits, another takes its place at once, which may be one too many and then waits for the next client.

Rules of this file: no socket and no clock; the machine that looks at the queue passes what it saw, and when (wait.py).
"""

from __future__ import annotations

from fastinetd.policy.back_off import BackOff

FIRST_PAUSE = 0.1
"""The grace pause at first, in seconds."""

LOOKS_PER_PAUSE = 4
"""Looks at the queue in one grace pause: between two of them servers may have emptied it, and clients filled it."""


class QueueDemand:
    """How long a queue has not been empty, and how many servers it calls for. Times are seconds."""

    def __init__(self, longest: float) -> None:
        """The grace pause is FIRST_PAUSE at first, and `longest` at most."""
        self._pauses = BackOff(first=FIRST_PAUSE, ceiling=longest)
        self._lengthen_pause()
        self._standing: float | None = None  # since when the queue was not seen empty, or called for the last server
        self._called_for = 1

    @property
    def pause(self) -> float:
        """The grace pause."""
        return self._pauses.pause

    @property
    def next_look(self) -> float:
        """Seconds until the queue is to be looked at again."""
        return self.pause / LOOKS_PER_PAUSE

    def calls_for_another(self, running: int, now: float) -> bool:
        """Whether the queue, which is not empty at this look, calls for more servers than are running."""
        if self._standing is None:
            self._standing = now
        if now - self._standing >= self.pause:
            self._called_for, self._standing = running + 1, now
        return running < self._called_for

    def server_started(self, now: float, *, helped: bool) -> None:
        """One server more runs. `helped`: something was taken from the queue since the one before it was started."""
        if helped:
            self._pauses.succeeded()
        self._lengthen_pause()
        if self._standing is None:
            self._standing = now

    def server_refused(self, running: int) -> None:
        """The queue has called for a server that may not be started: the next pause is longer."""
        self.begin_anew(running)
        self._lengthen_pause()

    def queue_emptied(self, running: int) -> None:
        """The queue was seen empty: the servers that are running are enough."""
        self.begin_anew(running)
        self._pauses.succeeded()
        self._lengthen_pause()

    def _lengthen_pause(self) -> None:
        """The first pause or a longer one: until something is taken, no server has helped, be it only just started."""
        self._pauses.failed()

    def begin_anew(self, running: int) -> None:
        """No further server is called for; a new pause begins with the next look."""
        self._called_for, self._standing = max(1, running), None
