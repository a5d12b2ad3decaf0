"""What others see of the supervisor: its title, and the status that the monitor tells."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence

from setproctitle import setproctitle, setthreadtitle

from fastinetd.core.board import Board
from fastinetd.monitor.metrics import ServiceInfo
from fastinetd.plan.model import Mode, methods_of
from fastinetd.services.installed import InstalledService, InstalledServices
from fastinetd.services.listeners import Listeners
from fastinetd.system.loop import Loop, Timer
from fastinetd.system.own_process import name_of_process

TITLE_EVERY = 0.5
"""Seconds between two titles at the least."""


def info_of(installed: InstalledService, sockets: Sequence[socket.socket]) -> ServiceInfo:
    """What the monitor must know of a service that listens on these sockets (borrowed)."""
    stream = installed.planned.service.socket_type == "stream"
    inodes = tuple(os.fstat(sock.fileno()).st_ino for sock in sockets) if stream else ()
    endpoints = tuple(map(str, installed.planned.endpoints))
    methods = () if installed.planned.mode is Mode.BUILTIN else methods_of(installed.planned.pool)
    planned = installed.planned
    return ServiceInfo(installed.row, planned.id, stream, methods, inodes, planned.refused, endpoints)


class Status:
    """The supervisor's title and status, kept up to date by calls."""

    def __init__(self, board: Board, rows: InstalledServices, loop: Loop, listeners: Listeners) -> None:
        self._board = board
        self._rows = rows
        self._loop = loop
        self._listeners = listeners
        listeners.changed = self._listening_later
        self._title = ""
        self._name = name_of_process()
        self._titled = 0.0
        self._timer: Timer | None = None
        self._about_to_listen = False
        self._reload_ok = True
        self._reload_time = 0
        self._generations = 0

    def generation(self) -> None:
        """Another generation is about to serve."""
        self._generations += 1
        self.listening()

    def _listening_later(self) -> None:
        """A socket is open that was not, or the reverse: thousands may be at once, and are looked at together."""
        if not self._about_to_listen:
            self._about_to_listen = True
            self._loop.later(0.0, self.listening)

    def listening(self) -> None:
        """Write to the Board which services do not listen on all of their endpoints, and why."""
        self._about_to_listen = False
        for installed in self._rows:
            endpoints = enumerate(installed.planned.endpoints)
            deaf = next(((place, each) for place, each in endpoints if not self._listeners.sockets_of(each)), None)
            if deaf is None:
                self._board.row_hears(installed.row)
            else:
                self._board.row_hears(installed.row, deaf[0], self._listeners.errno_of(deaf[1]))

    def loaded(self, ok: bool) -> None:
        """A configuration was installed, or refused."""
        self._reload_ok = ok
        if ok:
            self._reload_time = int(time.time())

    def summary(self) -> str:
        """A line for the service manager, which shows it with the unit's state."""
        served = f"{len(self._rows)} service{'' if len(self._rows) == 1 else 's'}"
        return served if self._reload_ok else f"{served}; the last reload was refused, as the log says why"

    def publish(self, *, ready: bool) -> None:
        """Write the status to the Board."""
        self._board.set_status(
            supervisor=os.getpid(), descriptors=len(os.listdir("/proc/self/fd")), ready=ready,
            reload_ok=self._reload_ok, reload_time=self._reload_time, generation=self._generations,
        )  # fmt: skip

    def retitle(self) -> None:
        """Name the process after what it does, now or, after the last time, a little later."""
        title = f"fastinetd: supervisor, {len(self._rows)} services, {self._board.live} children"
        if title == self._title or self._timer is not None:
            return
        now = time.monotonic()
        if now - self._titled < TITLE_EVERY:
            self._timer = self._loop.later(TITLE_EVERY, self._later)
            return
        setproctitle(title)
        setthreadtitle(self._name)  # the kernel's name, by which pidof and killall find it
        self._title, self._titled = title, now

    def _later(self) -> None:
        self._timer = None
        self.retitle()
