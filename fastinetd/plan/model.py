"""The records of the Plan: services with all that they need of this machine, looked up and immutable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from socket import AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM

from fastinetd.config.model import Service
from fastinetd.core.exec_context import ExecContext
from fastinetd.policy.access import AccessTable


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address or path on which a service listens. Equal endpoints have the same socket, across reloads too."""

    family: int  # AF_INET, AF_INET6 or AF_UNIX; AF_UNSPEC: that of the host
    kind: int  # SOCK_STREAM or SOCK_DGRAM
    host: str = ""  # address, host or interface name, path; "" is the wildcard
    port: int = 0
    v6only: bool = False  # the socket takes no IPv4 clients
    fallback: bool = False  # an IPv4 socket where the kernel has no IPv6
    apart: bool = False  # IPv4 clients have a socket of their own beside one that takes clients of both families

    @property
    def place(self) -> Endpoint:
        """The endpoint without `apart`, which is no part of the address: of two with one place only one can be open."""
        return replace(self, apart=False)

    def covers(self, other: Endpoint) -> bool:
        """Whether a stream socket with every address leaves no room for another one's: bind(2) would fail.

        A host that is a name is covered by a socket of both families only: which of them it has is known later.
        """
        if self.host or self.kind != SOCK_STREAM or (other.kind, other.port) != (self.kind, self.port):
            return False
        if not self.port:
            return False  # each gets a port of its own
        if self.family == AF_INET6 and not self.v6only:
            return other.family != AF_UNIX
        return other.family == self.family and (other.family == AF_INET or other.v6only or bool(other.host))

    def __str__(self) -> str:
        if self.family == AF_UNIX:
            return f"unix {self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{'tcp' if self.kind == SOCK_STREAM else 'udp'} {host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """The options of a listener that a reload may change while it is open."""

    nodelay: bool = False
    keepalive: bool = False
    receive_buffer: int | None = None
    send_buffer: int | None = None
    owner: int | None = None  # of a unix socket's file
    group: int | None = None
    mode: int | None = None


class Unplannable(Exception):
    """Raised for a service that cannot be started, after the reason has been reported."""


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The pool of a service; its numbers are for all acceptors together."""

    kind: str  # zygote, prefork or worker
    snapshot: str  # main or first_io, where zygote and prefork hold the program
    min_spare: int
    max_spare: int  # at least min_spare
    max_workers: int  # at least max_spare for a worker
    max_requests: int | None
    max_age: int | None  # seconds
    max_rss: int | None  # bytes
    max_runtime: int | None  # seconds
    handler: str | None
    files: tuple[bytes, ...]  # a change of one of these replaces the pool
    guard: int | None = None  # the capability that bars others of the user from zygotes that start (system/guard)


METHODS_OF_KIND = {
    "exec": ("exec",),
    "worker": ("exec", "worker"),
    "zygote": ("exec", "zygote"),
    "prefork": ("exec", "zygote", "prefork"),
}
"""Kind of pool -> the methods by which connections reach their servers; exec serves what the pool cannot."""


def methods_of(plan: PoolPlan | None) -> tuple[str, ...]:
    """The methods by which connections reach the servers of a service with this pool, or with none."""
    return METHODS_OF_KIND["exec" if plan is None else plan.kind]


def has_zygotes(plan: PoolPlan | None) -> bool:
    """Whether a service has a pool with zygotes."""
    return plan is not None and plan.kind != "worker"


class Mode(Enum):
    """Which process accepts the connections of a service."""

    NOWAIT = "nowait"  # the acceptors
    WAIT = "wait"  # the server, started by the supervisor
    BUILTIN = "builtin"  # the relay


@dataclass(frozen=True, slots=True)
class PlannedService:
    """A service that can be started, with all that it needs of this machine."""

    service: Service
    mode: Mode
    endpoints: tuple[Endpoint, ...]
    options: SocketOptions
    exec_context: ExecContext
    access: AccessTable
    rate: tuple[int, int]  # so many starts in so many nanoseconds; (0, 0): any number
    log_success: int  # the bits of core/layout.Field of log_on_success
    log_failure: int  # the bits of core/layout.Field of log_on_failure
    pool: PoolPlan | None = None  # None: every connection is served by exec
    refused: str | None = None  # why it has no pool although it asks for one: a word of plan/pool_plan.POOL_REFUSALS

    @property
    def id(self) -> str:
        """The id of the service, as in logs and metrics."""
        return self.service.id

    @property
    def share(self) -> int:
        """The most servers of a wait service that share one socket.

        In xinetd one, whatever `instances` is; here as many as the service itself says. `defaults` do not count: they
        are written for all services.
        """
        number = self.service.instances
        return 1 if number is None or "instances" in self.service.inherited else max(1, number)


@dataclass(frozen=True)
class Plan:
    """The services of a generation."""

    services: tuple[PlannedService, ...] = ()
    left_out: tuple[Service, ...] = ()  # services that the configuration has but for an error
    unserved: tuple[tuple[str, str], ...] = ()  # the id of each service of `left_out`, and the error
