"""The supervisor's loop: descriptors, timers and signals, one callback at a time.

Theory. A signal only writes a byte to a pipe (signal.set_wakeup_fd); its callback runs here, between two others.
Timers are a heap; a cancelled one is skipped when its time comes.

Rules of this file: an exception of a callback is logged, with the place it comes from, and the loop goes on. This is
the one boundary where every exception is caught, because a fault in one service's affairs must not end all others. The
loop owns its epoll and its wake-up pipe; watched descriptors are borrowed.
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

from fastinetd.system.descriptors import lift_descriptor


class Timer:
    """A callback that is called at a time of CLOCK_MONOTONIC in seconds, unless the timer is cancelled."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None] | None) -> None:
        self.when = when
        self.callback = callback

    def cancel(self) -> None:
        """Have the callback not be called; nothing if it has been."""
        self.callback = None


class Loop:
    """Watches descriptors, timers and signals until `stop`."""

    def __init__(self, trouble: Callable[[str], None]) -> None:
        """`trouble` logs a line about an exception of a callback."""
        self._trouble = trouble
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._signals: dict[int, Callable[[], None]] = {}
        self._running = False
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._reader, self._writer = lift_descriptor(reader), lift_descriptor(writer)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self.watch(self._reader, self._read_signals)

    def watch(self, descriptor: int, callback: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        """Call `callback(events)` each time the descriptor (borrowed) is ready for one of `events`."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Watch a descriptor no longer; nothing if it is not watched. To be called before it is closed."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, after at least this number of seconds."""
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback` after a signal with this number, once for several that come together."""
        self._signals[number] = callback
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)

    def stop(self) -> None:
        """Have `run` return after the present callback."""
        self._running = False

    def run(self) -> None:
        """Run callbacks, one at a time, until `stop` is called."""
        self._running = True
        while self._running:
            for descriptor, events in self._epoll.poll(self._seconds_to_timer()):
                callback = self._callbacks.get(descriptor)  # None: a callback before has unwatched it
                if callback is not None:
                    self._run_callback(callback, events)
                if not self._running:
                    return
            now = time.monotonic()
            while self._running and self._timers and self._timers[0][0] <= now:
                timer = heapq.heappop(self._timers)[2]
                if timer.callback is not None:
                    self._run_callback(timer.callback)

    def _seconds_to_timer(self) -> float:
        """The seconds until the next timer, for epoll_wait(2); -1 without one. Drops cancelled timers."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _run_callback(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call a callback, and log its exception if it raises one."""
        try:
            callback(*arguments)
        except Exception as error:
            self._trouble(f"{describe_error(error)}; the daemon goes on")

    def _read_signals(self, _: int) -> None:
        """Empty the pipe of signals and call the callback of each number in it."""
        try:
            numbers = set(os.read(self._reader, 4096))
        except BlockingIOError:
            return
        for number in sorted(numbers):
            if number in self._signals:
                self._run_callback(self._signals[number])


def describe_error(error: Exception) -> str:
    """A line about an unexpected exception: type, file and line it was raised at, text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {os.path.basename(frame.filename)}:{frame.lineno}: {error}"
