# ruff: noqa: E501 - a row of a table stays on one line
"""THE table: every attribute that a service or `defaults` may have.

The readers of xinetd.conf and TOML, `--check` and the manual page docs/attributes.md are all driven by it: an
attribute exists when, and only when, it has a row here. Rows have the parser of the value (values.py), how many
values and which operators are allowed, where the attribute may stand, and whether it takes effect in this release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from fastinetd.config import values as v
from fastinetd.config.addresses import parts_of
from fastinetd.config.model import OverRate

ONCE = -1
"""`Setting.count` of a list that is written once, with `=`."""
GROWS = -2
"""`Setting.count` of a list that may be repeated and changed with `+=` and `-=`."""

ANY = frozenset({"*"})
"""`Setting.unused` or `Setting.refused` of an attribute with all its values."""


class Scope(Enum):
    """Where an attribute may be written."""

    SERVICE = "services"
    BOTH = "services, defaults"
    DEFAULTS = "defaults"


class Of(Enum):
    """The part of a service that an attribute is of: without such a part it has no effect, which is warned of."""

    SERVICE = "any service"
    INTERNET = "a socket with an address, not a path"
    PATH = "a socket in the file system"
    PROGRAM = "a program: a built-in service has none"
    ZYGOTE = "a program that is held and forked"
    SPARE = "processes that are kept ready"
    WORKER = "processes that serve connection after connection"


SPAWN_OF = {Of.ZYGOTE: ("zygote", "prefork"), Of.SPARE: ("prefork", "worker"), Of.WORKER: ("worker",)}
"""What an attribute is of -> the values of `spawn` with which a service has such a part."""


class Inherit(Enum):
    """When a service of an inetd.conf inherits an attribute from the `defaults` of the xinetd.conf it is read with.

    A service of xinetd.conf inherits each attribute that it does not write.
    """

    UNWRITTEN = "their value holds where the line has none"
    ALWAYS = "their value holds, whatever the line has"
    NEVER = "the line says it in another way in any case"


class Origin(Enum):
    """The language that an attribute comes from."""

    XINETD = "xinetd"
    INETD = "inetd.conf"
    FASTINETD = "fastinetd"


@dataclass(frozen=True, slots=True)
class Setting:
    """One attribute: a row of the table."""

    name: str
    parse: v.Parser
    count: int  # how many values: a number above 0, ONCE or GROWS
    syntax: str  # what to write; completes `write ...`
    meaning: str  # one line for the manual
    scope: Scope = Scope.SERVICE
    default: str = "none"
    operators: tuple[str, ...] = ("=",)
    of: Of = Of.SERVICE
    inherit: Inherit = Inherit.UNWRITTEN  # with Scope.BOTH
    field: str = ""  # `key`, where that is not the name
    part_of: str | None = None  # the field of Service that the value goes into, where it is none itself; "": into none
    origin: Origin = Origin.XINETD
    free_text: bool = False  # `#` is content, never a comment
    appends: bool = False  # a repeated `=` adds to the list and does not replace it, in services too
    optional: bool = False  # the list may be empty
    unused: frozenset[str] = frozenset()  # values without effect in this release: warned of
    refused: frozenset[str] = frozenset()  # values a service cannot work without: it is not started
    toml_only: bool = False

    def syntax_in(self, *, toml: bool) -> str:
        """What to write, in TOML or in xinetd.conf: a bare `yes` is no TOML."""
        return "true or false" if toml and self.syntax == _YES_NO else self.syntax

    @property
    def key(self) -> str:
        """The name of the attribute's value in `Block.values` and Service."""
        return self.field or self.name

    @property
    def located(self) -> bool:
        """Whether the place of each entry of the attribute's list is kept, for messages about single entries."""
        return self.parse in (v.addresses, v.binds) or self.scope is Scope.DEFAULTS

    def parts_of(self, word: str) -> Mapping[str, object]:
        """The parts of a word of the attribute's list that `-=` takes away: each as a word -> what it means."""
        return parts_of(word) if self.parse is v.addresses else {word: word}

    @property
    def effect(self) -> str:
        """Whether this release acts on the attribute, for the manual."""
        if self.refused is ANY:
            return "not yet: the service is not started"
        if self.unused is ANY:
            return "not yet: a warning"
        parts = []
        if self.unused:
            parts.append(f"without effect: {' '.join(sorted(self.unused))}")
        if self.refused:
            parts.append(f"service not started: {' '.join(sorted(self.refused))}")
        return "; ".join(parts) or "yes"


INTERNALS = dict.fromkeys(("stream", "dgram"), ("chargen", "daytime", "discard", "echo", "time"))
"""Built-in services by socket type."""

SOCKET_TYPES = ("stream", "dgram", "raw", "seqpacket")

_BOTH, _SETS = Scope.BOTH, ("=", "+=", "-=")
_YES_NO = "yes or no"
_BYTES = "a number of bytes, with K or M if wanted, or UNLIMITED"
MOST_PROCESSES = 65_536
"""Servers that the Board has slots for."""

POOLS = "Pools"
"""The heading of the attributes that may stand behind the program of an inetd.conf."""


def _own(name: str, parse: v.Parser, count: int, syntax: str, meaning: str, scope: Scope = Scope.SERVICE,
         default: str = "none", of: Of = Of.SERVICE, toml_only: bool = False, origin: Origin = Origin.FASTINETD) -> Setting:
    """The row of an attribute that xinetd does not have."""
    return Setting(name, parse, count, syntax, meaning, scope, default, of=of, origin=origin, toml_only=toml_only)


def _over_rate(words: Sequence[str]) -> OverRate:
    """wait, refuse or close: a parser, as those of values.py."""
    return OverRate(_OVER_RATE(words))


_OVER_RATE = v.one_of(*(choice.value for choice in OverRate))

GROUPS: dict[str, tuple[Setting, ...]] = {
    "Which service": (
        Setting("id", v.word, 1, "one word without blanks", "the name in logs, metrics, `enabled` and `disabled`", default="the service's name"),
        _own("name", v.word, 1, "one word without blanks", "the service's name, where it differs from the name of its TOML table",
             default="the table's name", toml_only=True),
        Setting("type", v.some_of("RPC", "INTERNAL", "UNLISTED", "SPECIAL", "TCPMUX", "TCPMUXPLUS"), ONCE,
                "INTERNAL (built in), UNLISTED (not in /etc/services) or both", "what kind of service it is", field="types",
                refused=frozenset({"RPC", "TCPMUX", "TCPMUXPLUS"})),
        Setting("flags", v.some_of("INTERCEPT", "NORETRY", "IDONLY", "NAMEINARGS", "NODELAY", "KEEPALIVE", "NOLIBWRAP", "REUSE",
                                   "SENSOR", "LABELED", "IPv4", "IPv6"), ONCE,
                "words out of NAMEINARGS NODELAY KEEPALIVE IPv4 IPv6 NORETRY NOLIBWRAP REUSE",
                "NAMEINARGS: server_args begin with argv[0]; NODELAY (small writes are sent at once), "
                "KEEPALIVE: socket options; IPv4, IPv6: the address family; NORETRY, NOLIBWRAP, REUSE: accepted, nothing to change",
                unused=frozenset({"INTERCEPT", "LABELED", "IDONLY"}), refused=frozenset({"SENSOR"})),
        Setting("disable", v.yes_no, 1, _YES_NO, "leaves the service out", default="no", part_of=""),
        Setting("enabled", v.names, GROWS, "ids of services", "only these services are started", Scope.DEFAULTS,
                operators=("=", "+="), appends=True, optional=True, part_of=""),
        Setting("disabled", v.names, GROWS, "ids of services", "these services are not started, even if in `enabled`", Scope.DEFAULTS,
                operators=("=", "+="), appends=True, optional=True, part_of=""),
    ),
    "The socket": (
        Setting("socket_type", v.one_of(*SOCKET_TYPES), 1, "stream or dgram", "the kind of socket; raw and seqpacket are known, but not served",
                default="stream for tcp, dgram for udp"),
        Setting("protocol", v.protocol, 1, "tcp, udp or unix", "the protocol; unix is a socket in the file system",
                default="tcp for stream, udp for dgram"),
        Setting("wait", v.yes_no, 1, _YES_NO, "yes: the server is given the listening socket, one at a time or, with `instances` of 2 or more, so many; "
                "no: each connection starts a server", default="required"),
        Setting("port", v.whole(0, 65535), 1, "a port from 0 to 65535", "the port", default="looked up in /etc/services", of=Of.INTERNET),
        Setting("bind", v.binds, GROWS, "addresses, host names or interface names, or the path of a unix socket",
                "where to listen; a repeated line adds, what a service says replaces what `defaults` say", _BOTH, "everywhere", ("=", "+="), field="bind", appends=True),
        Setting("interface", v.binds, GROWS, "addresses, host names or interface names", "another name of bind",
                _BOTH, "everywhere", ("=", "+="), field="bind", appends=True),
        Setting("v6only", v.yes_no, 1, _YES_NO, "an IPv6 socket takes no IPv4 clients", _BOTH, "no", of=Of.INTERNET,
                inherit=Inherit.NEVER, part_of="family"),  # the protocol of a line names the family
        _own("receive_buffer", v.buffer, 1, "a number of bytes, with K or M if wanted", "size of the socket's receive buffer", _BOTH, "the system's", origin=Origin.INETD),
        _own("send_buffer", v.buffer, 1, "a number of bytes, with K or M if wanted", "size of the socket's send buffer", _BOTH, "the system's", origin=Origin.INETD),
        _own("socket_user", v.word, 1, "a user's name or number", "owner of a unix socket", default="the daemon's user", of=Of.PATH),
        _own("socket_group", v.word, 1, "a group's name or number", "group of a unix socket", default="the daemon's group", of=Of.PATH),
        _own("socket_mode", v.octal(0o7777), 1, "an octal number such as 0660", "permissions of a unix socket", default="0666", of=Of.PATH),
    ),
    "The program": (
        Setting("server", v.path, 1, "the absolute path of a program", "the program to start", default="required, but for INTERNAL", of=Of.PROGRAM),
        Setting("server_args", v.words, ONCE, "arguments", "its arguments, without its name; no quoting in xinetd.conf, TOML lists keep blanks",
                free_text=True, of=Of.PROGRAM, part_of="argv"),
        # `user` and `group` are usual in built-in services, and harmless: no warning.
        Setting("user", v.word, 1, "a user's name or number", "whom the program runs as", default="required, but for INTERNAL"),
        Setting("group", v.word, 1, "a group's name or number", "its group", default="the user's"),
        Setting("groups", v.yes_no, 1, _YES_NO, "it gets the user's further groups", _BOTH, "no", of=Of.PROGRAM),
        Setting("umask", v.octal(0o777), 1, "an octal number from 0 to 777", "its file mode mask", _BOTH, "the daemon's", of=Of.PROGRAM),
        Setting("nice", v.whole(-v.INT_MAX, v.INT_MAX), 1, "a whole number, usually from -20 to 19", "its priority", of=Of.PROGRAM),
        Setting("env", v.variables, GROWS, "NAME=VALUE", "variables added to its environment", operators=("=", "+="),
                free_text=True, optional=True, of=Of.PROGRAM),
        Setting("passenv", v.names, GROWS, "names of variables", "the only variables of the daemon's own environment it gets", _BOTH,
                "all", _SETS, optional=True, of=Of.PROGRAM),
        *(Setting(f"rlimit_{what}", v.memory_limit, 1, _BYTES, f"limit of its {text}", of=Of.PROGRAM, part_of="rlimits") for what, text in
          (("as", "address space"), ("data", "data segment"), ("rss", "resident memory"), ("stack", "stack"))),
        Setting("rlimit_cpu", v.plain_limit, 1, "a number of seconds, or UNLIMITED", "limit of its processor time", of=Of.PROGRAM, part_of="rlimits"),
        Setting("rlimit_files", v.memory_limit, 1, "a number, or UNLIMITED", "limit of its open files", default="the daemon's own", of=Of.PROGRAM, part_of="rlimits"),
        _own("spawn_primitive", v.one_of("auto", "clone", "posix_spawn"), 1, "auto, clone or posix_spawn",
             "the system call that starts it", _BOTH, "auto", of=Of.PROGRAM),
    ),
    POOLS: (
        _own("spawn", v.one_of("exec", "zygote", "prefork", "worker"), 1, "exec, zygote, prefork or worker",
             "how a connection gets its process. exec: the program is started for it; zygote: forked from a copy of the program held before it begins; "
             "prefork: forked from such a copy ahead of time; worker: one that serves connection after connection", _BOTH, "exec", of=Of.PROGRAM),
        _own("snapshot", v.one_of("main", "first_io"), 1, "main or first_io",
             "where zygote and prefork hold the program: before main, or at its first use of the connection", _BOTH, "main", of=Of.ZYGOTE),
        _own("min_spare", v.whole(0, MOST_PROCESSES), 1, f"a number from 0 to {MOST_PROCESSES}",
             "prefork and worker: fewest processes kept ready", _BOTH, "2", of=Of.SPARE),
        _own("max_spare", v.whole(1, MOST_PROCESSES), 1, f"a number from 1 to {MOST_PROCESSES}",
             "prefork and worker: most processes kept ready", _BOTH, "32, or min_spare when that is more", of=Of.SPARE),
        _own("max_workers", v.whole(1, MOST_PROCESSES), 1, f"a number from 1 to {MOST_PROCESSES}",
             "worker: most processes; while all are busy, clients wait", _BOTH, "32, or min_spare when that is more", of=Of.WORKER),
        _own("handler", v.handler, 1, "MODULE:FUNCTION", "worker: a function in Python, in place of server; where its module is goes into PYTHONPATH by `env`", of=Of.PROGRAM),
        _own("max_requests", v.limit, 1, "a number from 1, or UNLIMITED", "worker: about how many connections a process serves before it is replaced", _BOTH, "UNLIMITED", of=Of.WORKER),
        _own("max_age", v.limit, 1, "a number of seconds from 1, or UNLIMITED", "worker: about how old a process becomes before it is replaced", _BOTH, "UNLIMITED", of=Of.WORKER),
        _own("max_rss", v.size_limit, 1, "a number of bytes from 1, with K or M if wanted, or UNLIMITED",
             "worker: about how much resident memory a process may have before it is replaced", _BOTH, "UNLIMITED", of=Of.WORKER),
        _own("max_runtime", v.limit, 1, "a number of seconds from 1, or UNLIMITED", "worker: a process that is busy with one connection for longer is killed", _BOTH, "UNLIMITED", of=Of.WORKER),
        _own("allow_shared_layout", v.yes_no, 1, _YES_NO,
             "zygote and prefork: also as root with clients from outside, though all its processes have the same address layout", _BOTH, "no", of=Of.ZYGOTE),
    ),
    "Limits": (
        Setting("instances", v.count, 1, "a number from 0, or UNLIMITED", "most servers at a time; with `wait = yes` servers that share the listening socket, where the service itself says 2 or more",
                _BOTH, "UNLIMITED"),
        Setting("per_source", v.count, 1, "a number from 0, or UNLIMITED", "most servers at a time for one client address", _BOTH, "UNLIMITED"),
        Setting("cps", v.rate, 2, "two numbers: connections per second, and seconds to pause", "most starts in any second, by default 50: more clients wait (docs/rates.md); a first number of 0 is no limit",
                _BOTH, "50 10", field="rate", inherit=Inherit.ALWAYS),  # xinetd has no rates by the minute
        _own("over_rate", _over_rate, 1, "wait, refuse or close",
             "connections above cps wait in the queue, are closed, or nobody listens for the seconds of cps", _BOTH, "wait"),
        Setting("max_load", v.load, 1, "a number above 0", "refuses connections when the one-minute load average reaches it", _BOTH),
    ),
    "Who and when": (
        Setting("only_from", v.addresses, GROWS, "addresses such as 192.0.2.1, 192.0.2.0/24, 2001:db8::/32, host names or .domains",
                "only these clients are served; an empty list is nobody", _BOTH, "everybody", _SETS, optional=True),
        Setting("no_access", v.addresses, GROWS, "addresses as for only_from", "these clients are refused", _BOTH, "nobody", _SETS, optional=True),
        Setting("access_times", v.times, ONCE, "spans such as 8:00-17:30 22:00-6:00, hours up to 24:00",
                "when clients are served; a span may go over midnight", default="always"),
        Setting("libwrap", v.word, 1, "a daemon name of hosts.allow", "the name for tcp wrappers", unused=ANY),
        Setting("deny_time", v.deny_time, 1, "FOREVER, NEVER or a number of minutes", "how long a SENSOR bans a client", default="NEVER", unused=ANY),
    ),
    "Records": (
        Setting("log_type", v.log_type, ONCE, v.LOG_TYPE_SYNTAX,
                "where START, EXIT and FAIL records go", _BOTH, "no records"),
        Setting("log_on_success", v.some_of("PID", "HOST", "USERID", "EXIT", "DURATION", "TRAFFIC"), GROWS,
                "words out of PID HOST EXIT DURATION", "what is recorded of a served client", _BOTH, operators=_SETS,
                optional=True, unused=frozenset({"USERID", "TRAFFIC"})),
        Setting("log_on_failure", v.some_of("HOST", "USERID", "ATTEMPT"), GROWS, "words out of HOST ATTEMPT",
                "what is recorded of a refused client", _BOTH, operators=_SETS, optional=True, unused=frozenset({"USERID"})),
    ),
    "Read, but without effect in this release": (
        Setting("redirect", v.words, 2, "a host, and a port or service name", "hands the connection on to another host", refused=ANY),
        Setting("banner", v.word, 1, "the path of a file", "a file sent to every client", _BOTH, unused=ANY),
        Setting("banner_success", v.word, 1, "the path of a file", "a file sent to admitted clients", _BOTH, unused=ANY),
        Setting("banner_fail", v.word, 1, "the path of a file", "a file sent to refused clients", _BOTH, unused=ANY),
        Setting("rpc_version", v.versions, 1, "a number, or a range such as 2-4", "versions of an RPC service", unused=ANY),
        Setting("rpc_number", v.whole(0, 2**32 - 1), 1, "a number", "program number of an RPC service", unused=ANY),
        Setting("mdns", v.word, 1, _YES_NO, "announces the service by multicast DNS", _BOTH, unused=ANY, part_of=""),
    ),
}
"""The rows under the headings of the manual."""

SETTINGS: dict[str, Setting] = {row.name: row for rows in GROUPS.values() for row in rows}
"""Attribute name, in lower case -> its row."""

POOL_SETTINGS: dict[str, Setting] = {row.name: row for row in GROUPS[POOLS]}
"""Attribute name -> its row, of the attributes of pools alone."""

REMEDIES = {
    "redirect": "use a program such as socat as its server",
    "type": "run the program on its own, or give it a port",
    "flags": "remove the flag and give it a server, or remove the service",
}
"""Attribute name -> what to do about a value of it that keeps a service from being started."""
