"""The state dump of SIGUSR1, in xinetd's layout: `render_dump` makes the text, `write_dump` the file.

The daemon's environment and the values of a service's `env` are left out on purpose. xinetd writes both into a file
that every user may read; here the file is readable for its owner only, and secrets stay out of it nevertheless. There
is no block for `defaults`: each service has all values that hold for it. Address lists are as in the configuration.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fastinetd.config.model import UNLIMITED, LogKind, OverRate, Service
from fastinetd.logs.lines import error_text, printable_line

DUMP_PATH = "/run/fastinetd.dump"
"""The file of the dump."""


def describe_failure(path: str, error: OSError) -> str:
    """The line of the log about a dump that cannot be written, with the remedy."""
    roots = error.errno in (errno.EPERM, errno.EACCES)
    remedy = "only a daemon that root has started can" if roots else "mend that and send SIGUSR1 again"
    return f"cannot write the state dump to {path}: {error_text(error.errno)}; {remedy}"


class ServiceState(Enum):
    """xinetd's words for the state of a service."""

    ACTIVE = "Active"
    SUSPENDED = "Suspended"  # a wait service whose server has the socket, or a listener closed for its rate
    DISABLED = "Disabled"
    NOT_STARTED = "Not started"


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """One service and its present state."""

    service: Service
    state: ServiceState
    running: int = 0  # servers
    port: int | None = None  # the port of its listener; None: that of the configuration, if it names one
    descriptors: tuple[int, ...] = ()  # its listening sockets in the supervisor
    ids: tuple[int, int] | None = None  # uid and gid of its servers; None: the daemon's own
    refused: str | None = None  # why the service has no pool although it asks for one
    waits: int = 0  # clients that had to wait for the rate
    waited: float = 0.0  # seconds in which at least one client waited for the rate
    awaits_rate: bool = False  # clients wait for the rate now
    held: tuple[tuple[int, str, str], ...] = ()  # zygotes, the word of their HeldAt, system call or ""


@dataclass(frozen=True, slots=True)
class ServerLine:
    """One running server. `started` is Unix time in seconds; `address` is "" for a client without an address."""

    service: str  # id
    pid: int
    started: float
    address: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class DumpState:
    """All that a dump contains. `now` is Unix time in seconds."""

    version: str
    now: float
    config_file: str
    services: tuple[ServiceLine, ...] = ()
    servers: tuple[ServerLine, ...] = ()
    roles: tuple[tuple[str, int], ...] = ()  # name and pid of the daemon's own processes
    process_limit: int | None = None
    max_descriptors: int = 0
    descriptors_free: int = 0
    lost_records: int = 0


def render_dump(state: DumpState) -> str:
    """The text of a dump."""
    lines = [
        f"INTERNAL STATE DUMP: fastinetd {state.version}",
        f"Current time: {time.ctime(state.now)}",
        "",
        "Services + defaults:",
    ]
    for entry in state.services:
        lines += [*_service_lines(entry), ""]
    lines += ["Server table dump:"]
    for server in state.servers:
        lines += [*_server_lines(server), ""]
    lines += ["", "Retry table dump:", ""]  # always empty: a start that failed is not tried again
    active = sum(entry.state is ServiceState.ACTIVE for entry in state.services)
    available = sum(entry.state is not ServiceState.DISABLED for entry in state.services)
    lines += [f"{name} = {pid}" for name, pid in state.roles]
    lines += [
        "",
        f"active_services = {active}",
        f"available_services = {available}",
        f"descriptors_free = {state.descriptors_free}",
        f"running_servers = {len(state.servers)}",
        "Logging service = enabled",
        f"lost_records = {state.lost_records}",
        "",
        f"max_descriptors = {state.max_descriptors}",
        f"process_limit = {state.process_limit or 0}",
        f"config_file = {printable_line(state.config_file)}",
        "",
        "END OF DUMP",
        "",
    ]
    return "\n".join(lines)


def _service_lines(entry: ServiceLine) -> Iterator[str]:
    """The lines of a service."""
    name = printable_line(entry.service.name)
    yield f"Service = {name}"
    yield f"\tState = {entry.state.value}"
    yield f"\tService configuration: {name}"
    for attribute, value in _attribute_lines(entry):
        if value is not None:
            yield f"\t\t{attribute} = {printable_line(str(value))}"
    yield f"\t\tOnly from: {printable_line(_join_entries(entry.service.only_from, 'All sites'))}"
    yield f"\t\tNo access: {printable_line(_join_entries(entry.service.no_access, 'No blocked sites'))}"
    for line in (*_logging_lines(entry.service), *_environment_lines(entry.service)):
        yield f"\t\t{line}"
    yield f"\trunning servers = {entry.running}"
    yield "\tretry servers = 0"
    yield f"\tservice fd = {_join_entries(tuple(map(str, entry.descriptors)) or None, 'none')}"


def _attribute_lines(entry: ServiceLine) -> list[tuple[str, object]]:
    """The attributes of a service that have one line each, in xinetd's order; None leaves the line out.

    They are not read off the table of attributes (config/settings.py): the order and the words are xinetd's, and half
    of the lines show what runs, or several attributes at once.
    """
    s = entry.service
    uid, gid = entry.ids or (s.user, s.group)
    return [
        ("id", s.id),
        ("flags", _join_words(s.flags)),
        ("type", _join_words(s.types)),
        ("socket_type", s.socket_type),
        ("Protocol (name,number)", f"({s.protocol},{_PROTOCOL_NUMBERS.get(s.protocol, 0)})"),
        ("port", s.port if entry.port is None else entry.port),
        ("Instances", _limit_text(s.instances)),
        ("wait", "yes" if s.wait else "no"),
        ("user", uid),
        ("group", gid if s.group else None),
        ("Groups", "yes" if s.groups else "no"),
        ("umask", None if s.umask is None else f"{s.umask:o}"),
        ("Nice", s.nice),
        ("CPS", _rate_text(s)),
        ("over_rate", None if s.rate is None else s.over_rate.value),
        ("Waited for CPS", _waits_text(entry)),
        ("max_load", s.max_load),
        ("PER_SOURCE", -1 if s.per_source in (None, UNLIMITED) else s.per_source),
        ("Bind", _join_words(s.bind) or "All addresses."),
        ("Server", "internal" if s.internal else s.server),
        ("Server argv", " ".join(s.argv) if s.argv else None),
        *_pool_attributes(entry),
        ("Resource limits", _join_words(f"{name}:{_limit_text(value)}" for name, value in sorted(s.rlimits.items()))),
        ("Access times", _join_words(_window_text(*window) for window in s.access_times)),
    ]


def _pool_attributes(entry: ServiceLine) -> list[tuple[str, object]]:
    """The attributes of a service's pool; [] for one without, which is served by exec as in xinetd."""
    s = entry.service
    if s.spawn == "exec" or s.internal:
        return []
    refused = "" if entry.refused is None else f" (refused, by exec: {entry.refused})"
    return [
        ("Spawn", s.spawn + refused),
        ("Snapshot", s.snapshot if s.spawn in ("zygote", "prefork") else None),
        *(("Held", f"{count} at {call or 'main'}" + _HELD.get(point, "")) for count, point, call in entry.held),
        ("Handler", s.handler),
    ]


_HELD = {
    "first_use": ", the first use of the connection",
    "early": ", early: a fork would not copy it",
    "at_start": ", early: nothing is gained over main",
    "unsupported": ": first_io cannot be had here",
}
"""The word of a HeldAt -> what the dump adds to the system call at which a program is held."""

_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17}  # of protocols(5)


def _logging_lines(service: Service) -> Iterator[str]:
    """The lines about where records of a service go, and what is in them."""
    kind = service.log_type
    if kind.kind is LogKind.NONE:
        yield "No logging"
        return
    if kind.kind is LogKind.FILE:
        soft, hard = kind.soft_limit, kind.hard_limit
        limits = "no limits" if soft is None else f"soft={soft} hard={hard}"
        yield f"Logging to file: {printable_line(kind.path)} ({limits})"
    else:
        yield f"Logging to syslog. Facility = {kind.facility}, level = {kind.level}"
    yield f"Log_on_success flags = {_join_words(service.log_on_success) or ''}".rstrip()
    yield f"Log_on_failure flags = {_join_words(service.log_on_failure) or ''}".rstrip()


def _environment_lines(service: Service) -> Iterator[str]:
    """The lines about a service's environment: names only."""
    if service.passenv is not None:
        yield f"Passenv = {printable_line(' '.join(service.passenv))}".rstrip()
    if service.env:
        yield f"Environment names = {printable_line(_join_words(name for name, _ in service.env) or '')}"


def _server_lines(server: ServerLine) -> Iterator[str]:
    """The lines of a server."""
    service = printable_line(server.service)
    yield f"{service} server"
    yield f"pid = {server.pid}"
    yield f"start_time = {time.ctime(server.started)}"
    yield "Connection info:"
    yield f"\tservice = {service}"
    yield f"\tremote_address = {server.address},{server.port}" if server.address else "\tNo remote address"


def _join_words(words: Iterator[str] | Sequence[str] | frozenset[str]) -> str | None:
    """Words joined by blanks, those of a set sorted; None for no words."""
    return " ".join(sorted(words) if isinstance(words, frozenset) else words) or None


def _join_entries(entries: Sequence[str] | None, none: str) -> str:
    """The entries of a list joined by blanks; `none` for a list that is not set, a remark for an empty one."""
    if entries is None:
        return none
    return " ".join(entries) if entries else "(empty list)"


def _limit_text(value: int | None) -> str:
    """A limit as xinetd writes it."""
    return "UNLIMITED" if value is None or value == UNLIMITED else str(value)


def _rate_text(service: Service) -> str | None:
    """The value of CPS; None without a rate."""
    rate = service.rate
    if rate is None:
        return None
    period = "" if rate.seconds == 1 else f" per:{rate.seconds:g}"
    return f"max conn:{rate.count}{period} wait:{rate.pause}"


def _waits_text(entry: ServiceLine) -> str | None:
    """How much clients waited for the rate; None for a service whose clients never do."""
    if entry.service.rate is None or entry.service.over_rate is not OverRate.WAIT:
        return None
    return f"{entry.waits} clients, {entry.waited:.1f} seconds{', and clients do now' if entry.awaits_rate else ''}"


def _window_text(start: int, end: int) -> str:
    """A span of access_times, given in minutes of the day, as HH:MM-HH:MM."""
    return f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"


def write_dump(path: str, text: str) -> None:
    """Put `text` into the file `path`, readable for its owner only, in place of a file that is there.

    The text is written to a new file beside it, which is then renamed: a reader never sees half a dump, and a symbolic
    or hard link under the name is replaced rather than followed. Raises OSError.
    """
    target = Path(path)
    made = target.with_name(f".{target.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileNotFoundError):
        made.unlink()  # left behind by an earlier process with this pid
    fd = os.open(made, flags, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        made.replace(target)
    except OSError:
        made.unlink(missing_ok=True)
        raise
