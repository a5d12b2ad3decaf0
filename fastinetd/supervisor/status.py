"""What others see of the supervisor: its title, its status on the Board, which the monitor shows, and what the service
manager hears."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from setproctitle import setproctitle, setthreadtitle

from fastinetd.core.board import Board
from fastinetd.services.installed import InstalledServices
from fastinetd.services.listeners import Listeners
from fastinetd.system.loop import Loop, Timer
from fastinetd.system.notify import Notifier
from fastinetd.system.own_process import name_of_process

TITLE_EVERY = 0.5
"""Seconds between two titles at the least."""


class Status:
    """The supervisor's title and status, kept up to date by calls."""

    def __init__(self, board: Board, loop: Loop, services: InstalledServices, listeners: Listeners,
                 notifier: Notifier) -> None:
        self._board = board
        self._loop = loop
        self._services = services
        self._listeners = listeners
        self._notifier = notifier
        listeners.changed = self._write_unheard_soon
        self._title = ""
        self._name = name_of_process()
        self._titled = 0.0
        self._timer: Timer | None = None
        self._about_to_write = False
        self._reload_ok = True
        self._reload_time = 0
        self._generations = 0
        self._descriptors = 0

    # ---- what has happened ----

    def count_generation(self) -> None:
        """Another generation is about to serve."""
        self._generations += 1
        self._write_unheard()

    def loaded(self) -> None:
        """A configuration was installed."""
        self._reload_ok = True
        self._reload_time = int(time.time())

    def serving(self) -> None:
        """The daemon serves: after the start, and after a reload, whether that was refused or not."""
        self._publish(ready=True)
        self._notifier.send_ready(self._summary())
        self.retitle()

    def reloading(self) -> None:
        """A reload begins: it counts as refused until a configuration is `loaded`."""
        self._notifier.send_reloading()
        self._reload_ok = False

    def stopping(self) -> None:
        """The daemon serves no client any more."""
        self._notifier.send_stopping()
        self._publish(ready=False)

    # ---- the service manager ----

    def feed_watchdog(self) -> None:
        """Send the service manager its watchdog's sign of life, and again as often as it asks for one."""
        interval = self._notifier.watchdog_interval
        if interval is not None:
            self._notifier.send_watchdog()
            self._loop.later(interval, self.feed_watchdog)

    def _summary(self) -> str:
        """A line for the service manager, which shows it with the unit's state."""
        served = f"{len(self._services)} service{'' if len(self._services) == 1 else 's'}"
        return served if self._reload_ok else f"{served}; the last reload was refused, as the log says why"

    # ---- the Board ----

    def _publish(self, *, ready: bool) -> None:
        self._board.set_status(
            supervisor=os.getpid(), descriptors=self._count_descriptors(), ready=ready,
            reload_ok=self._reload_ok, reload_time=self._reload_time, generation=self._generations,
        )

    def _count_descriptors(self) -> int:
        """How many descriptors this process has; without memory to look, how many it had at the last look, so that the
        status can be published."""
        with suppress(OSError, MemoryError):
            self._descriptors = len(os.listdir("/proc/self/fd"))
        return self._descriptors

    def _write_unheard_soon(self) -> None:
        """A socket is open that was not, or the reverse: thousands may be at once, and are looked at together."""
        if not self._about_to_write:
            self._about_to_write = True
            self._loop.later(0.0, self._write_unheard)

    def _write_unheard(self) -> None:
        """Write which services do not listen on all of their endpoints, and why."""
        self._about_to_write = False
        for installed in self._services:
            endpoints = enumerate(installed.planned.endpoints)
            closed = next(((place, each) for place, each in endpoints if not self._listeners.sockets_of(each)), None)
            if closed is None:
                self._board.row_hears(installed.row)
            else:
                self._board.row_hears(installed.row, closed[0], self._listeners.errno_of(closed[1]))

    # ---- the title ----

    def retitle(self) -> None:
        """Name the process after what it does: now, or a little later if it was named a moment ago."""
        title = f"fastinetd: supervisor, {len(self._services)} services, {self._board.live} children"
        if title == self._title or self._timer is not None:
            return
        now = time.monotonic()
        if now - self._titled < TITLE_EVERY:
            self._timer = self._loop.later(TITLE_EVERY, self._retitle_late)
            return
        setproctitle(title)
        setthreadtitle(self._name)  # the kernel's name, by which pidof and killall find it
        self._title, self._titled = title, now

    def _retitle_late(self) -> None:
        self._timer = None
        self.retitle()
