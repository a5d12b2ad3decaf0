# ruff: noqa: E501 - a field and what it means stay on one line
"""The records that every reader produces: the services of a configuration, with the place of each value.

Rules of this file: frozen records only, no behaviour beyond small derived properties, no look-ups (users, ports,
names and files are resolved by the Plan, which reports those it cannot find at the places kept here).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType


def encode_text(text: str) -> bytes:
    """The bytes that a text of a configuration was decoded from, whatever the locale: as load.py decodes them."""
    return text.encode("utf-8", "surrogateescape")


UNLIMITED = -1
"""An rlimit without a limit (RLIM_INFINITY)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands in the configuration: file, line and column, the latter two counted from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Family(Enum):
    """The address families on which a service listens."""

    AUTO = "auto"  # the bind address's own family; without bind both, IPv4 where there is no IPv6
    IPV4 = "ipv4"
    IPV6 = "ipv6"  # IPv6 only
    BOTH = "both"  # IPv6 addresses, and IPv4 clients too where they can come that way (xinetd's flags = IPv6)
    DUAL = "dual"  # one IPv6 socket that takes IPv4 clients too, IPv4 where there is no IPv6
    SPLIT = "split"  # two sockets, IPv4 and IPv6-only (what Debian's inetd opens for `tcp`)
    UNIX = "unix"


class GroupsOfRoot(Enum):
    """The groups that root's servers get in an inetd.

    A server of another user gets that user's supplementary groups, and as its group the one of the line or, where the
    line names none, that user's login group.
    """

    OWN = "own"  # as a server of another user
    DAEMON = "daemon"  # the group of the daemon alone, whether the line names a group or not
    KEPT = "kept"  # the supplementary groups of the daemon; its group too, where the line names none


class OverRate(Enum):
    """What happens to connections above a service's rate."""

    WAIT = "wait"  # connections wait in the kernel's queue
    REFUSE = "refuse"  # connections are accepted and closed, with a FAIL record
    CLOSE = "close"  # xinetd's way: the listener is closed for `Rate.pause` seconds


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` starts in any `seconds`; all of them may come at once."""

    count: int
    seconds: float = 1.0
    pause: int = 10  # seconds without a listener under OverRate.CLOSE


class LogKind(Enum):
    """The destination of a service's records."""

    NONE = "none"
    SYSLOG = "syslog"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class LogType:
    """Where a service's START, EXIT and FAIL records go: the value of `log_type`."""

    kind: LogKind = LogKind.NONE
    facility: str = "daemon"
    level: str = "info"
    path: str = ""
    soft_limit: int | None = None  # bytes
    hard_limit: int | None = None  # bytes


@dataclass(frozen=True, slots=True)
class Service:
    """One enabled service: a field for each attribute, named as in xinetd.conf; None is `not set`."""

    name: str  # the word after `service`: selects /etc/services and the built-in
    id: str  # what is logged and counted
    place: Place
    types: frozenset[str] = frozenset()  # RPC INTERNAL UNLISTED SPECIAL TCPMUX TCPMUXPLUS
    flags: frozenset[str] = frozenset()  # canonical spelling: NAMEINARGS NODELAY KEEPALIVE IPv4 IPv6 ...
    socket_type: str = "stream"  # stream dgram raw seqpacket
    protocol: str = "tcp"  # tcp udp unix; others are read, and not served
    wait: bool = False
    family: Family = Family.AUTO
    bind: tuple[str, ...] = ()  # addresses, host names or interface names; a path for a unix socket; () is the wildcard
    port: int | None = None  # None: look the name up in /etc/services
    user: str | None = None
    group: str | None = None
    groups: bool = False
    groups_of_root: GroupsOfRoot | None = None  # None: groups are looked up as in xinetd
    server: str | None = None
    argv: tuple[str, ...] = ()  # the whole argument vector, argv[0] first
    env: tuple[tuple[str, str], ...] = ()  # in order, later ones win
    passenv: tuple[str, ...] | None = None  # None: the daemon's whole environment
    scrubbed: tuple[str, ...] = ()  # beginnings of variables of the daemon's environment that are not passed on
    umask: int | None = None
    nice: int | None = None
    rlimits: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))  # as cpu data rss stack files -> value or UNLIMITED
    instances: int | None = None
    per_source: int | None = None
    rate: Rate | None = None
    over_rate: OverRate = OverRate.WAIT
    max_load: float | None = None
    only_from: tuple[str, ...] | None = None
    no_access: tuple[str, ...] | None = None
    access_times: tuple[tuple[int, int], ...] = ()  # minutes of the day, both ends included; start > end spans midnight
    log_type: LogType = LogType()
    log_on_success: frozenset[str] = frozenset()  # PID HOST USERID EXIT DURATION TRAFFIC
    log_on_failure: frozenset[str] = frozenset()  # HOST USERID ATTEMPT
    redirect: tuple[str, str] | None = None  # host, port or service name
    banner: str | None = None
    banner_success: str | None = None
    banner_fail: str | None = None
    deny_time: int | None = None  # minutes; UNLIMITED: for ever; 0: never
    libwrap: str | None = None
    rpc_version: tuple[int, int] | None = None
    rpc_number: int | None = None
    spawn_primitive: str = "auto"  # auto clone posix_spawn
    spawn: str = "exec"  # exec zygote prefork worker
    snapshot: str = "main"  # main first_io: where a zygote is held
    min_spare: int = 2  # processes kept ready
    max_spare: int = 32
    max_workers: int = 32
    handler: str | None = None  # module:function, in place of server
    max_requests: int | None = None  # of a worker, as the three below
    max_age: int | None = None  # seconds
    max_rss: int | None = None  # bytes
    max_runtime: int | None = None  # seconds
    allow_shared_layout: bool = False
    receive_buffer: int | None = None  # bytes
    send_buffer: int | None = None  # bytes
    socket_user: str | None = None  # owner of a unix socket's file
    socket_group: str | None = None
    socket_mode: int | None = None
    numbered: bool = False  # the id is made of the name and, where several lines have it, of their order
    places: Mapping[str, Place] = field(default_factory=lambda: MappingProxyType({}))  # attribute name -> its value's place
    spots: Mapping[str, tuple[Place, ...]] = field(default_factory=lambda: MappingProxyType({}))  # only_from, no_access, bind -> the place of each entry
    inherited: frozenset[str] = frozenset()  # the attributes among them that are written in `defaults` alone

    @property
    def internal(self) -> bool:
        """Whether the service is built in."""
        return "INTERNAL" in self.types

    @property
    def unlisted(self) -> bool:
        """Whether the service is UNLISTED: not expected in /etc/services."""
        return "UNLISTED" in self.types

    def place_of(self, attribute: str) -> Place:
        """The place of an attribute's value; that of the service when the attribute is not written."""
        return self.places.get(attribute, self.place)

    def place_of_entry(self, attribute: str, index: int) -> Place:
        """The place of the entry with the number `index`, from 0, of an attribute that is a list."""
        spots = self.spots.get(attribute, ())
        return spots[index] if index < len(spots) else self.place_of(attribute)


@dataclass(frozen=True, slots=True)
class Disabled:
    """A service that is read but switched off by the configuration."""

    id: str
    place: Place
    how: str  # completes `is disabled`


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration as it was read once."""

    source: str  # the file that was named
    services: tuple[Service, ...]
    kind: str = ""  # xinetd, inetd or toml; empty when it was not read from a file
    files: tuple[str, ...] = ()  # every file and folder that was read, for messages and watching
    fatal: bool = False  # the configuration as a whole must not be used (a bad `defaults`, an unreadable file)
    broken: tuple[Service, ...] = ()  # services with an error, as far as they could be read: never started, only checked
    disabled: tuple[Disabled, ...] = ()
