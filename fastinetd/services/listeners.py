"""The daemon's listening sockets, by endpoint, across reloads.

Theory. An endpoint that the Plan wants is open, or waits for its next attempt (its address, name or port may come
later). A reload says which endpoints are wanted; the open ones among them are left alone, with the clients in their
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
from typing import NamedTuple

from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.plan.model import Endpoint, PlannedService, SocketOptions
from fastinetd.policy.back_off import BackOff
from fastinetd.services.sockets import apply_options, open_endpoint, open_guard, set_permissions
from fastinetd.system.loop import Loop, Timer
from fastinetd.system.strangers import close_shared_sockets

RETRY_FIRST, RETRY_LONGEST = 1.0, 30.0
"""Seconds between two attempts to open an endpoint: after the first one that failed, and at most."""

PAUSE_PER_ATTEMPT = 9.0
"""The pause after an attempt that failed is at least so many times as long as the attempt: to resolve a name may take
seconds in which the supervisor does nothing else, but that is no more than a tenth of its time."""

RENEWAL_FORGOTTEN_AFTER = 60.0
"""Seconds after a renewal of an endpoint from which on the next renewal counts as the first one."""


class ListenRequest(NamedTuple):
    """What a service wants of an endpoint."""

    endpoint: Endpoint
    options: SocketOptions
    for_servers: bool  # its sockets are handed over to servers (a wait service), and so they block
    service: str  # the service's id


@dataclass
class WantedEndpoint:
    """An endpoint that a service listens on: its open sockets, or a timer for the next attempt."""

    request: ListenRequest
    sockets: list[socket.socket] = field(default_factory=list)
    guards: list[socket.socket] = field(default_factory=list)  # they keep the port and are never listened on
    retry: Timer | None = None
    errno: int = 0  # of the latest attempt; 0: it succeeded
    retries: BackOff = field(default_factory=lambda: BackOff(first=RETRY_FIRST, ceiling=RETRY_LONGEST))
    path_inode: tuple[int, int] | None = None  # of a unix socket's file: device and number
    renewals: BackOff = field(default_factory=BackOff)
    renewed: float = float("-inf")  # when a server last spoilt the sockets
    rest: Timer | None = None  # until the sockets that replaced spoilt ones are served

    def stop_retrying(self) -> None:
        """Cancel the next attempt to open the endpoint, if one is planned."""
        if self.retry is not None:
            self.retry.cancel()
            self.retry = None

    def stop_resting(self) -> None:
        """Cancel the rest of new sockets, if there is one."""
        if self.rest is not None:
            self.rest.cancel()
            self.rest = None


class Listeners:
    """Opens the endpoints that services want, and keeps them open.

    The parts that must hear of changes are made after the listeners, for they work with them; so each puts a function
    of its own into `opened_late` (endpoints that could not be opened at first are open now, and no role has them yet)
    or `changed` (an endpoint is open that was not, or the reverse).
    """

    def __init__(self, loop: Loop, messages: DaemonLog) -> None:
        self._loop = loop
        self._messages = messages
        self.opened_late: Callable[[], None] = lambda: None
        self.changed: Callable[[], None] = lambda: None
        self._wanted: dict[Endpoint, WantedEndpoint] = {}

    def want(self, requests: Iterable[ListenRequest]) -> set[Endpoint]:
        """Open the endpoints that are not open yet, and set the options of all. Returns the endpoints that no service
        wants any more, which `drop` closes."""
        by_endpoint = {request.endpoint: request for request in requests}
        unwanted = self._wanted.keys() - by_endpoint.keys()
        leaving: dict[tuple[bool, int, int], list[socket.socket]] = {}
        for endpoint in unwanted:
            before = self._wanted[endpoint]
            leaving.setdefault(_place_of(endpoint), []).extend([*before.sockets, *before.guards])
        for endpoint, request in by_endpoint.items():
            wanted = self._wanted.get(endpoint)
            if wanted is None:
                wanted = self._wanted[endpoint] = WantedEndpoint(request)
                self._attempt(wanted, leaving.get(_place_of(endpoint)))
            else:
                self._change(wanted, request)
        return unwanted

    def _change(self, wanted: WantedEndpoint, request: ListenRequest) -> None:
        """A reload wants an endpoint as `request` has it; before it was wanted otherwise, perhaps."""
        before, wanted.request = wanted.request, request
        if request.for_servers and not before.for_servers:
            self._guard(wanted)  # and the other way round servers may have it for a while yet: the guards stay
        for one in wanted.sockets:
            if not request.for_servers:  # and the other way round once no acceptor has it any more (WaitSocket)
                one.setblocking(False)
            if before.options != request.options:
                apply_options(one, request.options)
        if before.options != request.options and wanted.path_inode is not None:
            self._permit(wanted, wanted.path_inode)
        if wanted.retry is not None:  # a reload is worth another attempt
            wanted.stop_retrying()
            self._attempt(wanted)

    def drop(self, endpoints: Iterable[Endpoint]) -> None:
        """Close endpoints, and want them no more."""
        for endpoint in endpoints:
            wanted = self._wanted.pop(endpoint)
            wanted.stop_retrying()
            wanted.stop_resting()
            for one in wanted.sockets:
                if one.type == socket.SOCK_STREAM and not wanted.request.for_servers:
                    with suppress(OSError):  # roles that are still leaving have it too: free the port at once
                        one.shutdown(socket.SHUT_RDWR)
            close_shared_sockets([*wanted.guards, *wanted.sockets])
            _remove_path(wanted)

    def close(self) -> None:
        """Close all endpoints, at the daemon's end."""
        self.drop(list(self._wanted))

    def sockets_of(self, endpoint: Endpoint) -> list[socket.socket]:
        """The open sockets of an endpoint (borrowed); none while it cannot be opened."""
        wanted = self._wanted.get(endpoint)
        return wanted.sockets if wanted else []

    def sockets_of_service(self, planned: PlannedService) -> list[socket.socket]:
        """The open sockets of all endpoints of a service (borrowed)."""
        return [sock for endpoint in planned.endpoints for sock in self.sockets_of(endpoint)]

    def sockets_beside(self, sock: socket.socket) -> list[socket.socket]:
        """The open sockets of the endpoint that a socket belongs to (borrowed), itself included."""
        wanted = self._with_socket(sock)
        return wanted.sockets if wanted else []

    def _with_socket(self, sock: socket.socket) -> WantedEndpoint | None:
        return next((wanted for wanted in self._wanted.values() if sock in wanted.sockets), None)

    def errno_of(self, endpoint: Endpoint) -> int:
        """The errno that the latest attempt to open an endpoint failed with; 0 when it did not."""
        wanted = self._wanted.get(endpoint)
        return wanted.errno if wanted else 0

    def retry_now(self) -> None:
        """Attempt now what waits for its next attempt: a listener that was in the way may be closed."""
        waiting = [wanted for wanted in self._wanted.values() if wanted.retry is not None]
        for wanted in waiting:
            wanted.stop_retrying()
        self._tell_opened_late([wanted for wanted in waiting if self._attempt(wanted)])

    def renew(self, sock: socket.socket) -> None:
        """A server has spoilt a socket that was handed to it: open its endpoint anew, at once, and close the old one.

        The new sockets are served at once the first time; with growing pauses if that happens again and again, for it
        costs new roles each time.
        """
        wanted = self._with_socket(sock)
        if wanted is None:
            return
        pause = 0.0
        if time.monotonic() - wanted.renewed > RENEWAL_FORGOTTEN_AFTER:
            wanted.renewals.succeeded()
        else:
            pause = wanted.renewals.failed()
        wanted.renewed = time.monotonic()
        endpoint, _, _, service = wanted.request
        spoilt, wanted.sockets = wanted.sockets, []
        if wanted.guards or endpoint.family == socket.AF_UNIX:
            close_shared_sockets(spoilt)
        else:  # the spoilt ones keep the port until the new ones have it
            wanted.guards = spoilt
        wanted.stop_resting()
        done = "has to be opened anew"
        if self._attempt(wanted):
            wanted.rest = self._loop.later(pause, lambda: self._rested(wanted))
            done = "is opened anew" + (f", and served in {pause:g} s" if pause else "")
        self._messages.warning(  # now that it listens again: whoever reads this may connect
            f"service {service}: its server has shut down, connected, shared or locked {endpoint}, which {done}"
        )

    def _rested(self, wanted: WantedEndpoint) -> None:
        wanted.rest = None
        self._tell_opened_late([wanted])

    def _attempt(self, wanted: WantedEndpoint, leaving: list[socket.socket] | None = None) -> bool:
        """Open an endpoint; False, with a timer for the next attempt, when it cannot be opened. `leaving`: sockets that
        may be in the way and will be closed soon."""
        quiet = leaving is not None
        endpoint, options, for_servers, service = wanted.request
        beside = [*(leaving or ()), *wanted.guards]
        began = time.monotonic()
        try:
            wanted.sockets, remarks = open_endpoint(endpoint, options, blocking=for_servers, beside=beside,
                                                    alone=not self._has_other_sockets(endpoint))
        except OSError as error:
            first = wanted.retries.pause == 0 and not quiet
            pause = RETRY_FIRST if quiet else wanted.retries.failed()
            pause = max(pause, PAUSE_PER_ATTEMPT * (time.monotonic() - began))
            wanted.retry = self._loop.later(pause, lambda: self._retry(wanted))
            wanted.errno = error.errno or 0
            self.changed()
            if first:
                name = errno.errorcode.get(error.errno or 0, error.errno)
                self._messages.error(
                    f"service {service}: cannot listen on {endpoint}: {error.strerror or error} (errno = {name}); "
                    f"{_remedy_for(error, endpoint)}, it is tried again"
                )
            return False
        wanted.retries.succeeded()
        wanted.errno = 0
        self._guard(wanted)
        self._messages.debug(f"service {service}: listening on {endpoint}")
        for remark in remarks:
            self._messages.warning(f"service {service}: {remark}")
        if endpoint.family == socket.AF_UNIX:
            wanted.path_inode = _inode_of(endpoint)
        return True

    def _has_other_sockets(self, endpoint: Endpoint) -> bool:
        """Whether another endpoint has open sockets with the port of this one."""
        return any(other != endpoint and wanted.sockets and _place_of(other) == _place_of(endpoint)
                   for other, wanted in self._wanted.items())

    def _retry(self, wanted: WantedEndpoint) -> None:
        wanted.retry = None
        if self._attempt(wanted):
            self._tell_opened_late([wanted])

    def _tell_opened_late(self, late: list[WantedEndpoint]) -> None:
        """Endpoints that could not be opened at first, or were spoilt, are open now."""
        for wanted in late:
            self._messages.notice(f"service {wanted.request.service}: listening on {wanted.request.endpoint} now")
        if late:
            self.opened_late()

    def _guard(self, wanted: WantedEndpoint) -> None:
        """Have guards for sockets that servers are given, and none for sockets that they are not."""
        before, wanted.guards = wanted.guards, []
        endpoint, _, for_servers, service = wanted.request
        try:
            if for_servers and endpoint.kind == socket.SOCK_STREAM and endpoint.family != socket.AF_UNIX:
                for one in wanted.sockets:
                    wanted.guards.append(open_guard(one))
        except OSError as error:
            self._messages.warning(f"service {service}: nothing keeps {endpoint} when its server shuts it down: "
                                   f"{error.strerror}; another user's program may have it then")
        close_shared_sockets(before)

    def _permit(self, wanted: WantedEndpoint, inode: tuple[int, int]) -> None:
        """Give the file of an open unix socket another owner or mode, as its service wants them now."""
        endpoint, options, _, service = wanted.request
        try:
            set_permissions(endpoint.host, inode, options)
        except OSError as error:
            self._messages.error(f"service {service}: cannot change the owner and mode of {endpoint.host}: "
                                 f"{error.strerror}; mend the path and the permissions of its folder")


def _inode_of(endpoint: Endpoint) -> tuple[int, int]:
    """The device and number of a unix socket's file, by which it differs from others of its name. Raises OSError."""
    status = Path(endpoint.host).lstat()
    return status.st_dev, status.st_ino


def _remove_path(wanted: WantedEndpoint) -> None:
    """Remove a unix socket's file, if it is still the one that was made."""
    if wanted.path_inode is not None:
        with suppress(OSError):
            if _inode_of(wanted.request.endpoint) == wanted.path_inode:
                Path(wanted.request.endpoint.host).unlink()


def _place_of(endpoint: Endpoint) -> tuple[bool, int, int]:
    """What two endpoints have in common that may be in each other's way."""
    return endpoint.family == socket.AF_UNIX, endpoint.kind, endpoint.port


def _remedy_for(error: OSError, endpoint: Endpoint) -> str:
    """What an administrator can do about an endpoint that cannot be opened."""
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
