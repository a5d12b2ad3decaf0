"""The daemon's listening sockets, by endpoint, across reloads.

Theory. An endpoint that the Plan wants is open, or waits for its next attempt (its address, name or port may come
later). A reload tells which endpoints are wanted; the open ones among them are left alone, with what is in their
queues, and those no longer wanted are closed once the new roles run. Nothing else ever closes a listener.

While a service is configured its port is never free for a moment, or a local user's program could have it, and the
clients. A new socket is bound before the one it replaces is closed. A server of a wait service has the socket itself
and can shut it down: a stream's port is kept by a guard besides, which no server has.

Rules of this file: it owns the sockets it returns; they are inherited by roles, never handed out to be closed.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.plan.model import Endpoint, SocketOptions
from fastinetd.policy.limits import BackOff
from fastinetd.services.sockets import apply, guard, open_endpoint, permit
from fastinetd.system.loop import Loop, Timer
from fastinetd.system.strangers import close_shared_sockets

FIRST_PAUSE = 1.0
"""Seconds until the second attempt on an endpoint."""

REST = 9.0
"""So many times as long as an attempt took is the pause after it, at least: one to resolve a name may take seconds in
which the supervisor does nothing else, but that is no more than a tenth of its time."""

FORGOTTEN = 60.0
"""Seconds without another renewal after which the next one is made at once."""

Wish = tuple[Endpoint, SocketOptions, bool, str]
"""An endpoint, its options, whether its sockets are blocking (handed over to servers), and the service's id."""


@dataclass
class Open:
    """An endpoint's state: open sockets, or a timer for the next attempt."""

    wish: Wish
    sockets: list[socket.socket] = field(default_factory=list)
    guards: list[socket.socket] = field(default_factory=list)  # they keep its port, and are nobody's to serve
    retry: Timer | None = None
    trouble: int = 0  # errno of the last attempt
    back_off: BackOff = field(default_factory=lambda: BackOff(first=FIRST_PAUSE, ceiling=30.0))
    path_inode: tuple[int, int] | None = None
    renewals: BackOff = field(default_factory=BackOff)
    renewed: float = float("-inf")  # when a server last spoilt its sockets
    rest: Timer | None = None  # until the sockets after that are served


class Listeners:
    """Opens what is wanted and keeps it. `appeared` is called when an endpoint opened after a failed attempt."""

    def __init__(self, loop: Loop, messages: DaemonLog, appeared: Callable[[], None]) -> None:
        self._loop = loop
        self._messages = messages
        self._appeared = appeared
        self.changed: Callable[[], None] = lambda: None  # called when a socket is open that was not, or the reverse
        self._open: dict[Endpoint, Open] = {}

    def want(self, wishes: Iterable[Wish]) -> set[Endpoint]:
        """Open what is not open yet, and set options. Returns the endpoints no longer wanted; see `drop`."""
        wanted = {wish[0]: wish for wish in wishes}
        leaving: dict[tuple[bool, int, int], list[socket.socket]] = {}
        for endpoint in self._open.keys() - wanted.keys():
            before = self._open[endpoint]
            leaving.setdefault(_place(endpoint), []).extend([*before.sockets, *before.guards])
        for endpoint, wish in wanted.items():
            held = self._open.get(endpoint)
            if held is None:
                held = self._open[endpoint] = Open(wish)
                self._attempt(held, leaving.get(_place(endpoint)))
                continue
            had, held.wish = held.wish, wish
            if wish[2] and not had[2]:  # the other way round servers may have it for a while yet: the guards stay
                self._guard(held)
            for one in held.sockets:
                if not wish[2]:  # the other way round once no acceptor has it any more (WaitSocket)
                    one.setblocking(False)
                if had[1] != wish[1]:
                    apply(one, wish[1])
            if had[1] != wish[1] and held.path_inode is not None:
                self._permit(held, held.path_inode)
            if not held.sockets and held.retry is not None:  # a reload is worth another attempt
                held.retry.cancel()
                self._attempt(held)
        return self._open.keys() - wanted.keys()

    def drop(self, endpoints: Iterable[Endpoint]) -> None:
        """Close endpoints."""
        for endpoint in endpoints:
            held = self._open.pop(endpoint)
            for timer in (held.retry, held.rest):
                if timer is not None:
                    timer.cancel()
            for one in held.sockets:
                if one.type == socket.SOCK_STREAM and not held.wish[2]:
                    with suppress(OSError):  # roles that are still leaving have it too: free the port at once
                        one.shutdown(socket.SHUT_RDWR)
            close_shared_sockets([*held.guards, *held.sockets])
            self._remove_path(endpoint, held)

    def close(self) -> None:
        """Close everything, at the daemon's end."""
        self.drop(list(self._open))

    def of(self, endpoint: Endpoint) -> list[socket.socket]:
        """The open sockets of an endpoint (borrowed); none while it cannot be opened."""
        held = self._open.get(endpoint)
        return held.sockets if held else []

    def trouble(self, endpoint: Endpoint) -> int:
        """The errno that the last attempt on an endpoint failed with; 0 when it did not."""
        held = self._open.get(endpoint)
        return held.trouble if held else 0

    def try_again(self) -> None:
        """Attempt what waits now: a listener that was in the way may be closed."""
        waiting = [held for held in self._open.values() if held.retry is not None]
        for held in waiting:
            if held.retry is not None:
                held.retry.cancel()
        self._opened([held for held in waiting if self._attempt(held)])

    def beside(self, sock: socket.socket) -> list[socket.socket]:
        """The open sockets of the endpoint this one belongs to (borrowed), itself included."""
        return next((held.sockets for held in self._open.values() if sock in held.sockets), [])

    def renew(self, sock: socket.socket) -> None:
        """A server has spoilt a socket that was handed to it: open its endpoint anew, at once, and close the old one.

        It is served at once the first time; with growing pauses if that happens again and again, for it costs new roles
        each time.
        """
        held = next((held for held in self._open.values() if sock in held.sockets), None)
        if held is None:
            return
        pause = 0.0
        if time.monotonic() - held.renewed > FORGOTTEN:
            held.renewals.succeeded()
        else:
            pause = held.renewals.failed(0.0)
        held.renewed = time.monotonic()
        when = f", and served in {pause:g} s" if pause else ""
        self._messages.warning(
            f"{held.wish[3]}: its server has shut down, connected, shared or locked {held.wish[0]}, which is "
            f"opened anew{when}"
        )
        spoilt, held.sockets = held.sockets, []
        if held.guards or held.wish[0].family == socket.AF_UNIX:  # otherwise these keep the port until others have it
            close_shared_sockets(spoilt)
        else:
            held.guards = spoilt
        if held.rest is not None:
            held.rest.cancel()
            held.rest = None
        if self._attempt(held):
            held.rest = self._loop.later(pause, lambda: self._rested(held))

    def _rested(self, held: Open) -> None:
        held.rest = None
        self._opened([held])

    def _attempt(self, held: Open, leaving: list[socket.socket] | None = None) -> bool:
        """Open an endpoint; `leaving`: these may be in its way, and will be closed soon."""
        held.retry = None
        quiet = leaving is not None
        endpoint, options, blocking, service = held.wish
        beside = [*(leaving or ()), *held.guards]
        began = time.monotonic()
        try:
            held.sockets, remarks = open_endpoint(endpoint, options, blocking=blocking, beside=beside)
        except OSError as error:
            first = held.back_off.pause == 0 and not quiet
            pause = max(FIRST_PAUSE if quiet else held.back_off.failed(0.0), REST * (time.monotonic() - began))
            held.retry = self._loop.later(pause, lambda: self._again(held))
            held.trouble = error.errno or 0
            self.changed()
            if first:
                name = errno.errorcode.get(error.errno or 0, error.errno)
                self._messages.error(
                    f"service {service}: cannot listen on {endpoint}: {error.strerror or error} (errno = {name}); "
                    f"{_remedy(error, endpoint)}, it is tried again"
                )
            return False
        held.back_off.succeeded()
        held.trouble = 0
        self._guard(held)
        self._messages.debug(f"service {service}: listening on {endpoint}")
        for remark in remarks:
            self._messages.warning(f"service {service}: {remark}")
        if endpoint.family == socket.AF_UNIX:
            status = Path(endpoint.host).lstat()
            held.path_inode = (status.st_dev, status.st_ino)
        return True

    def _guard(self, held: Open) -> None:
        """Have guards for sockets that servers are given, and none for new ones that they are not."""
        before, held.guards = held.guards, []
        endpoint, _, given, service = held.wish
        try:
            if given and endpoint.kind == socket.SOCK_STREAM and endpoint.family != socket.AF_UNIX:
                for one in held.sockets:
                    held.guards.append(guard(one))
        except OSError as error:
            self._messages.warning(f"service {service}: nothing keeps {endpoint} when its server shuts it down: "
                                   f"{error.strerror}; another user's program may have it then")
        close_shared_sockets(before)

    def _permit(self, held: Open, inode: tuple[int, int]) -> None:
        """The file of an open unix socket is to have another owner or mode."""
        endpoint, options, _, service = held.wish
        try:
            permit(endpoint.host, inode, options)
        except OSError as error:
            self._messages.error(f"service {service}: cannot change the owner and mode of {endpoint.host}: "
                                 f"{error.strerror}; mend the path and the permissions of its folder")

    def _again(self, held: Open) -> None:
        if self._attempt(held):
            self._opened([held])

    def _opened(self, late: list[Open]) -> None:
        """These have been opened after all."""
        for held in late:
            self._messages.notice(f"service {held.wish[3]}: listening on {held.wish[0]} now")
        if late:
            self._appeared()

    @staticmethod
    def _remove_path(endpoint: Endpoint, held: Open) -> None:
        """Remove a unix socket's file, if it is still the one that was made."""
        if held.path_inode is None:
            return
        with suppress(OSError):
            status = Path(endpoint.host).lstat()
            if (status.st_dev, status.st_ino) == held.path_inode:
                Path(endpoint.host).unlink()


def _place(endpoint: Endpoint) -> tuple[bool, int, int]:
    """What two endpoints have in common that may be in each other's way."""
    return endpoint.family == socket.AF_UNIX, endpoint.kind, endpoint.port


def _remedy(error: OSError, endpoint: Endpoint) -> str:
    if error.errno == errno.EMFILE:
        return "allow more open files (ulimit -n, LimitNOFILE)"
    if endpoint.family == socket.AF_UNIX:
        if error.errno == errno.EADDRINUSE:
            return "end the program that listens there or remove the file, or choose another path"
        return "mend the path and the permissions of its folder"
    if error.errno == errno.EADDRINUSE:
        return "end the other program that listens there, or choose another port"
    if error.errno == errno.EACCES:
        return "start as root with CAP_NET_BIND_SERVICE, or choose a port from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return "add the address or mend the name"
    return "mend what the system call complains about"
