"""The Plan: what each service needs of this machine, looked up and immutable."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from enum import Enum

from fastinetd.config.model import Service
from fastinetd.plan.environment import Environment
from fastinetd.policy.access import AccessTable


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing a service listens on. Equal endpoints are the same socket, across reloads too."""

    family: int  # AF_INET, AF_INET6 or AF_UNIX; AF_UNSPEC: that of the host
    kind: int  # SOCK_STREAM or SOCK_DGRAM
    host: str = ""  # address, host or interface name, path; "" is the wildcard
    port: int = 0
    v6only: bool = False  # IPv4 has sockets of its own
    fallback: bool = False  # IPv4 where there is no IPv6
    apart: bool = False  # IPv4 clients have a socket of their own beside one that takes clients of both families

    @property
    def place(self) -> Endpoint:
        """The endpoint without what merely says how many sockets it has: of two with one place one can be open."""
        return replace(self, apart=False)

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return f"unix {self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host or "*"
        return f"{'tcp' if self.kind == socket.SOCK_STREAM else 'udp'} {host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """What may be changed on an open listener."""

    nodelay: bool = False
    keepalive: bool = False
    receive_buffer: int | None = None
    send_buffer: int | None = None
    owner: int | None = None  # of a unix socket's file
    group: int | None = None
    mode: int | None = None


class Unplannable(Exception):
    """The service cannot be started; the reason has been reported."""


Limit = tuple[int, int, int]
"""An rlimit: resource, soft, hard."""


@dataclass(frozen=True, slots=True)
class ExecContext:
    """How a server is started: everything the child is given."""

    path: bytes
    argv: tuple[bytes, ...]
    environ: Environment
    ids: tuple[int, int] | None = None
    groups: tuple[int, ...] | None = None
    drop_capabilities: bool = False  # what is inherited stays with root's programs
    limits: tuple[Limit, ...] = ()
    umask: int | None = None
    nice: int | None = None
    posix_spawn: bool = False


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """The pool of a service, over all acceptors."""

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
    guard: int | None = None  # the capability that keeps others of the user out while zygotes start (system/guard.py)


METHODS = {
    "exec": ("exec",),
    "worker": ("exec", "worker"),
    "zygote": ("exec", "zygote"),
    "prefork": ("exec", "zygote", "prefork"),
}
"""How connections may come to their servers, by the kind of pool: exec is always there to fall back on."""


def methods_of(plan: PoolPlan | None) -> tuple[str, ...]:
    return METHODS["exec" if plan is None else plan.kind]


def holds(plan: PoolPlan | None) -> bool:
    """Whether the pool has zygotes."""
    return plan is not None and plan.kind != "worker"


class Mode(Enum):
    """Who takes the service's connections."""

    NOWAIT = "nowait"  # the acceptors
    WAIT = "wait"  # the server, started by the supervisor
    BUILTIN = "builtin"  # the relay


@dataclass(frozen=True, slots=True)
class PlannedService:
    """A service that can be started on this machine."""

    service: Service
    mode: Mode
    endpoints: tuple[Endpoint, ...]
    options: SocketOptions
    start: ExecContext
    access: AccessTable
    rate: tuple[int, int]  # so many starts in so many nanoseconds; (0, 0): any number
    log_success: int
    log_failure: int
    pool: PoolPlan | None = None  # None: every connection is served by exec
    refused: str | None = None  # why it has no pool although it asks for one: a word of pools.REFUSALS

    @property
    def id(self) -> str:
        return self.service.id

    @property
    def share(self) -> int:
        """Servers of a wait service that share one socket, at the most. One in xinetd, whatever `instances` is; so it
        stays here for a number that the service merely has from `defaults`, which are written for all services."""
        number = self.service.instances
        return 1 if number is None or "instances" in self.service.inherited else max(1, number)


@dataclass(frozen=True)
class Plan:
    services: tuple[PlannedService, ...] = ()
    left_out: tuple[Service, ...] = ()  # wanted, but with an error
    unserved: tuple[tuple[str, str], ...] = ()  # their ids, and why
