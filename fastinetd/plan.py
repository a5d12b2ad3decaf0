"""From a Config to a Plan: what each service needs of this machine is looked up, once, before anything is started.

A Plan is immutable: users are numbers, argument vectors and environments are bytes, address lists are intervals. What
cannot be found is reported at the place where it is written, and takes down that service only.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from fastinetd._board import Field
from fastinetd._program import CONNECTION_VARIABLES
from fastinetd.config.diagnostics import Report
from fastinetd.config.model import UNLIMITED, Config, Family, OverRate, Place, Service
from fastinetd.policy.access import AccessTable, compile_access
from fastinetd.policy.addresses import Reason
from fastinetd.policy.limits import rate_numbers
from fastinetd.sockets import UNIX_PATH_MOST, Endpoint, SocketOptions, has_ipv6

MANAGERS = frozenset({
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "MAINPID",
    "MANAGERPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "FDSTORE",
})  # fmt: skip
"""What a service manager tells the daemon, and what is nothing to its servers."""

WRAPPER_FILES = ("/etc/hosts.allow", "/etc/hosts.deny")

Limit = tuple[int, int, int]
"""An rlimit: resource, soft, hard."""


class Mode(Enum):
    """Who takes the service's connections."""

    NOWAIT = "nowait"  # the acceptors
    WAIT = "wait"  # the server, started by the supervisor
    BUILTIN = "builtin"  # the relay


@dataclass(frozen=True, slots=True)
class Start:
    """How a server is started: everything the child is given."""

    path: bytes
    argv: tuple[bytes, ...]
    environ: tuple[bytes, ...]
    ids: tuple[int, int] | None = None
    groups: tuple[int, ...] | None = None
    limits: tuple[Limit, ...] = ()
    umask: int | None = None
    nice: int | None = None
    posix_spawn: bool = False


@dataclass(frozen=True, slots=True)
class PlannedService:
    """A service that can be started on this machine."""

    service: Service
    mode: Mode
    endpoints: tuple[Endpoint, ...]
    options: SocketOptions
    start: Start
    access: AccessTable
    rate: tuple[int, int]  # GCRA's increment and tolerance in nanoseconds
    log_success: int
    log_failure: int

    @property
    def id(self) -> str:
        return self.service.id

    @property
    def key(self) -> tuple[str, str, tuple[Endpoint, ...]]:
        """Identity across reloads: what keeps its row, its counts and its running servers."""
        return (self.service.id, self.service.protocol, self.endpoints)


@dataclass(frozen=True)
class Plan:
    services: tuple[PlannedService, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What the daemon was started with, as far as its servers inherit it."""

    environ: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(dict(os.environ)))
    root: bool = field(default_factory=lambda: os.geteuid() == 0)
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    nice: int = field(default_factory=lambda: os.getpriority(os.PRIO_PROCESS, 0))
    files: tuple[int, int] = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
    clone: bool = True  # the start by clone works here

    @property
    def own_name(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


class Unplannable(Exception):
    """The service cannot be started; the reason has been reported."""


def make_plan(config: Config, surroundings: Surroundings, report: Report) -> Plan:
    """Look up what the services need. Services that miss something are reported and left out."""
    planned: list[PlannedService] = []
    taken: dict[Endpoint, Service] = {}
    for service in config.services:
        try:
            made = _plan(service, surroundings, report)
            for endpoint in made.endpoints:
                other = taken.setdefault(endpoint, service)
                if other is not service:
                    report.add("same-socket", service.where("port"), service=service.id, socket=endpoint,
                               other=other.id, place=other.place)
                    raise Unplannable
        except Unplannable:
            continue
        planned.append(made)
    if planned:
        _warn_of_wrappers(config, report)
    for service in config.broken:
        try:
            _ids(service, surroundings, report)
            _program(service, report)
        except Unplannable:
            continue
    return Plan(tuple(planned))


def _plan(service: Service, surroundings: Surroundings, report: Report) -> PlannedService:
    mode = Mode.BUILTIN if service.internal else Mode.WAIT if service.wait else Mode.NOWAIT
    endpoints = _endpoints(service, report)
    start = _start(service, surroundings, report)
    if mode is Mode.WAIT and service.socket_type == "stream" and (service.only_from or service.no_access):
        report.add("wait-access", service.where("only_from" if service.only_from else "no_access"), service=service.id)
    options = SocketOptions(
        nodelay="NODELAY" in service.flags,
        keepalive="KEEPALIVE" in service.flags,
        receive_buffer=service.receive_buffer,
        send_buffer=service.send_buffer,
        owner=_uid(service.socket_user, service.where("socket_user"), report)[0] if service.socket_user else None,
        group=_gid(service.socket_group, service.where("socket_group"), report) if service.socket_group else None,
        mode=service.socket_mode,
    )
    return PlannedService(
        service, mode, endpoints, options, start, _access(service, report), rate_numbers(service.rate),
        _fields(service.log_on_success), _fields(service.log_on_failure),
    )


def _warn_of_wrappers(config: Config, report: Report) -> None:
    """xinetd as distributions build it consults hosts.allow and hosts.deny (hosts_access(5)); this daemon does not."""
    for path in WRAPPER_FILES:
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            continue
        rules = [number for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
        if rules:
            report.add("tcp-wrappers", Place(path, rules[0]), file=path)


# ---- addresses and ports ----


def _endpoints(service: Service, report: Report) -> tuple[Endpoint, ...]:
    kinds = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM}
    kind = kinds.get(service.socket_type)
    if kind is None:
        report.add("raw-socket", service.where("socket_type"), service=service.id, value=service.socket_type)
        raise Unplannable
    if service.family is Family.UNIX or service.protocol == "unix":
        return tuple(_unix_endpoint(service, path, kind, report) for path in service.bind or ("",))
    port = _port(service, report)
    hosts = service.bind or ("",)
    found = []
    for host in hosts:
        found += _internet_endpoints(service.family, host, kind, port)
    return tuple(dict.fromkeys(found))


def _unix_endpoint(service: Service, path: str, kind: int, report: Report) -> Endpoint:
    if not path.startswith("/") or len(os.fsencode(path)) > UNIX_PATH_MOST:
        report.add("unix-without-path", service.where("bind"), service=service.id, most=UNIX_PATH_MOST)
        raise Unplannable
    return Endpoint(socket.AF_UNIX, kind, path)


def _internet_endpoints(family: Family, host: str, kind: int, port: int) -> list[Endpoint]:
    six = Endpoint(socket.AF_INET6, kind, host, port)
    match family:
        case Family.IPV4:
            return [Endpoint(socket.AF_INET, kind, host, port)]
        case Family.IPV6:
            return [Endpoint(socket.AF_INET6, kind, host, port, v6only=True)]
        case Family.DUAL:
            return [six if host else Endpoint(socket.AF_INET6, kind, host, port, fallback=True)]
        case Family.SPLIT:
            both = [Endpoint(socket.AF_INET, kind, host, port)]
            if has_ipv6():
                both.append(Endpoint(socket.AF_INET6, kind, host, port, v6only=True))
            return both
        case _:
            if host:
                return [Endpoint(socket.AF_UNSPEC, kind, host, port)]
            return [Endpoint(socket.AF_INET6, kind, host, port, fallback=True)]


def _port(service: Service, report: Report) -> int:
    """The port, from the configuration or /etc/services."""
    if service.port is not None and service.unlisted:
        return service.port
    listed = _listed_port(service.name, service.protocol)
    if service.port is None:
        if listed is None:
            report.add("no-port", service.place, service=service.id, name=service.name, protocol=service.protocol)
            raise Unplannable
        return listed
    values = {"service": service.id, "name": service.name, "protocol": service.protocol}
    if listed is None:
        report.add("unlisted", service.where("port"), **values)
    elif listed != service.port:
        report.add("other-port", service.where("port"), listed=listed, **values)
    return service.port


@lru_cache(maxsize=4096)
def _listed_port(name: str, protocol: str) -> int | None:
    try:
        return socket.getservbyname(name, protocol)
    except (OSError, ValueError, UnicodeError):
        return None


# ---- the program and its surroundings ----


def _start(service: Service, surroundings: Surroundings, report: Report) -> Start:
    ids, groups = _ids(service, surroundings, report)
    path = _program(service, report)
    start = Start(
        path=path,
        argv=tuple(os.fsencode(word) for word in service.argv),
        environ=_environ(service, surroundings.environ),
        ids=ids,
        groups=groups,
        limits=_limits(service, surroundings),
        umask=service.umask,
        nice=None if service.nice is None else max(-20, min(19, surroundings.nice + service.nice)),
    )
    needs = [
        what
        for what, needed in (
            ("another user", ids is not None),
            ("groups", groups is not None),
            ("rlimits", len(start.limits) > 1),
            ("umask", start.umask is not None),
            ("nice", start.nice is not None),
        )
        if needed
    ]
    wanted = service.spawn_primitive
    if needs and wanted == "posix_spawn":
        report.add("cannot-posix-spawn", service.where("spawn_primitive"), service=service.id, what=" and ".join(needs))
        raise Unplannable
    if needs and not surroundings.clone and not service.internal:
        report.add("no-clone", service.place, service=service.id, what=" and ".join(needs))
        raise Unplannable
    if wanted == "posix_spawn" or (wanted == "auto" and not surroundings.clone):
        return Start(path, start.argv, start.environ, None, None, start.limits, posix_spawn=True)
    return start


def _program(service: Service, report: Report) -> bytes:
    """The server's path; it must be a file that may be executed."""
    if service.internal or service.server is None:
        return b""
    path = Path(service.server)
    reason = ""
    try:
        if not path.is_file():
            reason = "it is not a file" if path.exists() else "no such file"
        elif not os.access(path, os.X_OK):
            reason = "it is not executable"
    except (OSError, ValueError) as error:
        reason = str(error)
    if reason:
        report.add("no-program", service.where("server"), service=service.id, value=service.server, reason=reason)
        raise Unplannable
    return os.fsencode(service.server)


def _uid(name: str, place: Place, report: Report) -> tuple[int, int | None]:
    """(uid, primary gid) of a user; a number without an entry has no gid of its own."""
    try:
        entry = _user(name)
        return entry.pw_uid, entry.pw_gid
    except KeyError:
        if name.isascii() and name.isdigit() and int(name) < 2**32 - 1:
            return int(name), None
        report.add("no-user", place, value=name)
        raise Unplannable from None


def _gid(name: str, place: Place, report: Report) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if name.isascii() and name.isdigit() and int(name) < 2**32 - 1:
            return int(name)
        report.add("no-group", place, value=name)
        raise Unplannable from None


@lru_cache(maxsize=1024)
def _user(name: str) -> pwd.struct_passwd:
    return pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)


@lru_cache(maxsize=1024)
def _groups_of(name: str, gid: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(os.getgrouplist(name, gid)))


def forget_lookups() -> None:
    """Ask the user database and /etc/services anew (before each reading of the configuration)."""
    for cached in (_user, _groups_of, _listed_port):
        cached.cache_clear()


def _ids(
    service: Service, surroundings: Surroundings, report: Report
) -> tuple[tuple[int, int] | None, tuple[int, ...] | None]:
    """((uid, gid) or None to stay, supplementary groups or None to leave them)."""
    if service.internal or service.user is None:
        return None, None
    uid, own_gid = _uid(service.user, service.where("user"), report)
    gid = uid if own_gid is None else own_gid
    if service.group:
        gid = _gid(service.group, service.where("group"), report)
    if not surroundings.root:
        if uid != surroundings.uid:
            report.add("not-own-user", service.where("user"), service=service.id, value=service.user,
                       own=surroundings.own_name)
            raise Unplannable
        if service.group and gid != surroundings.gid:
            report.add("not-own-group", service.where("group"), service=service.id, what=f"group {service.group}")
            raise Unplannable
        return None, None
    groups: tuple[int, ...] = ()
    if service.groups:
        try:
            entry = _user(service.user)
        except KeyError:
            report.add("user-without-entry", service.where("groups"), service=service.id, value=service.user)
            raise Unplannable from None
        groups = _groups_of(entry.pw_name, entry.pw_gid)
    return (uid, gid), groups


def _environ(service: Service, environ: Mapping[str, str]) -> tuple[bytes, ...]:
    """NAME=value of the constant part of the environment; the connection's own variables are never inherited."""
    if service.passenv is None:
        names: Sequence[str] = list(environ)
    else:
        names = [name for name in dict.fromkeys(service.passenv) if name in environ]
    values = {name: environ[name] for name in names if name not in CONNECTION_VARIABLES | MANAGERS}
    values.update((name, value) for name, value in service.env if name not in CONNECTION_VARIABLES)
    return tuple(os.fsencode(f"{name}={value}") for name, value in values.items())


_RESOURCES = {
    "as": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "rss": resource.RLIMIT_RSS,
    "stack": resource.RLIMIT_STACK,
    "files": resource.RLIMIT_NOFILE,
}


def _limits(service: Service, surroundings: Surroundings) -> tuple[Limit, ...]:
    """What is set in the child; its limit of open files is always the daemon's original one, or its own."""
    if service.internal:
        return ()
    limits = {resource.RLIMIT_NOFILE: surroundings.files}
    for name, value in service.rlimits.items():
        number = resource.RLIM_INFINITY if value == UNLIMITED else value
        if not surroundings.root:
            hard = resource.getrlimit(_RESOURCES[name])[1] if name != "files" else surroundings.files[1]
            number = hard if number == resource.RLIM_INFINITY else min(number, hard) if hard >= 0 else number
        if name == "files" and number == resource.RLIM_INFINITY:
            number = int(Path("/proc/sys/fs/nr_open").read_text())
        limits[_RESOURCES[name]] = (number, number)
    return tuple((which, soft, hard) for which, (soft, hard) in limits.items())


# ---- access ----

_WHY = {
    Reason.COMMA: ("has a comma outside braces", "separate addresses by blanks"),
    Reason.BRACES: ("has braces that cannot be read", "write a.b.c.{{1,2,3}} with numbers up to 255 as its last part"),
    Reason.ADDRESS: ("is not a whole address", "write a.b.c.0 or a.b.c.0/24"),
    Reason.LENGTH: ("has no length of network after its slash", "write a.b.c.0/24"),
    Reason.MASK: ("has a mask that is not a network's", "write the length, as in a.b.c.0/24"),
    Reason.SCOPE: ("names an interface", "write the address alone"),
    Reason.UNKNOWN: ("is neither an address nor a name", "write an address, a network or a host name"),
}


def _network(name: str) -> str | None:
    """The dotted number of a name in /etc/networks (networks(5))."""
    return _networks().get(name.lower())


@lru_cache(maxsize=1)
def _networks() -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        lines = Path("/etc/networks").read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.partition("#")[0].split()
        for name in [words[0], *words[2:]] if len(words) > 1 else []:
            found.setdefault(name.lower(), words[1])
    return found


def _access(service: Service, report: Report) -> AccessTable:
    table = compile_access(service.only_from, service.no_access, _network)
    for rejection in table.rejected:
        entries = service.only_from if rejection.list == "only_from" else service.no_access
        reason, remedy = _WHY[rejection.reason]
        report.add("bad-address-entry", service.where(rejection.list), service=service.id, name=rejection.list,
                   value=(entries or ())[rejection.position], reason=reason, remedy=remedy)
    lost = sum(rejection.list == "only_from" for rejection in table.rejected)
    if service.only_from and lost == len(service.only_from):
        report.add("only-from-nobody", service.where("only_from"), service=service.id, remedy="mend its entries")
    return table


# ---- logging ----

_FIELDS = {
    "PID": Field.SHOW_PID,
    "HOST": Field.SHOW_HOST,
    "USERID": Field.SHOW_USERID,
    "EXIT": Field.SHOW_EXIT,
    "DURATION": Field.SHOW_DURATION,
    "TRAFFIC": Field.SHOW_TRAFFIC,
    "ATTEMPT": Field.SHOW_ATTEMPT,
}


def _fields(words: frozenset[str]) -> int:
    return sum(int(_FIELDS[word]) for word in words)


OVER_RATE = {OverRate.WAIT: 0, OverRate.REFUSE: 1, OverRate.CLOSE: 2}
"""The numbers of the core."""
