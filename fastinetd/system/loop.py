"""The supervisor's loop: descriptors, timers and signals, one callback at a time.

Theory. Signals only write a byte to a pipe (signal.set_wakeup_fd); what they mean is done here, between two other
callbacks. Timers are a heap; a cancelled one is skipped when its time comes.

Rules of this file: what a callback raises is told, with the place it comes from, and the loop goes on: this is the one
boundary where everything is caught, because a fault in one service's affairs must not end all others. The loop owns
its epoll and its wake-up pipe; watched descriptors are borrowed.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from itertools import count

from fastinetd.system.descriptors import lift


class Timer:
    """Something to be done later. `cancel` forgets it."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None] | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """Watches descriptors, timers and signals until `stop`."""

    def __init__(self, trouble: Callable[[str], None]) -> None:
        """`trouble` is told what went wrong in a callback."""
        self._trouble = trouble
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._signals: dict[int, Callable[[], None]] = {}
        self._running = False
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._reader, self._writer = lift(reader), lift(writer)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self.watch(self._reader, self._read_signals)

    def watch(self, descriptor: int, callback: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        """Call `callback(events)` whenever the descriptor is ready."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, after at least so many seconds."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback` after the signal came, once for any number that came together."""
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)

    def stop(self) -> None:
        """Leave `run` after the present callback."""
        self._running = False

    def run(self) -> None:
        self._running = True
        while self._running:
            for descriptor, events in self._epoll.poll(self._timeout()):
                callback = self._callbacks.get(descriptor)
                if callback is not None:
                    self._call(callback, events)
                if not self._running:
                    return
            now = time.monotonic()
            while self._running and self._timers and self._timers[0][0] <= now:
                timer = heapq.heappop(self._timers)[2]
                if timer.callback is not None:
                    self._call(timer.callback)

    def _timeout(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            self._trouble(f"{description(error)}; the daemon goes on")

    def _read_signals(self, _: int) -> None:
        try:
            numbers = set(os.read(self._reader, 4096))
        except BlockingIOError:
            return
        for number in sorted(numbers):
            if number in self._signals:
                self._call(self._signals[number])


def description(error: Exception) -> str:
    """One line about an error that nobody foresaw, with the place it comes from."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {os.path.basename(frame.filename)}:{frame.lineno}: {error}"
