# ruff: noqa: E501 - a row of a table stays on one line
"""Errors, warnings and notes about a configuration: one catalogue of messages, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from fastinetd.config.model import Place


class Severity(Enum):
    """How grave a diagnostic is: an error keeps a service, or the whole configuration, from being used."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An entry of the catalogue, filled in for one place; as text it is `FILE:LINE:COLUMN: SEVERITY: TEXT`."""

    code: str  # key in CATALOGUE
    place: Place
    severity: Severity
    text: str
    service: str | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.severity.value}: {self.text}"


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

CATALOGUE: dict[str, tuple[Severity, str]] = {
    # -- files (load)
    "cannot-read": (_E, "cannot read {path!r}: {reason}; name a file that exists and can be read"),
    "cannot-include": (_E, "cannot read {path!r}: {reason}; mend the path or remove this line"),
    "include-cycle": (_E, "{path!r} includes itself by way of this line; remove one of the include lines"),
    "include-depth": (_E, "files include files more than {depth} deep here; put the services into one folder and use includedir"),
    "not-a-file": (_N, "{path!r} is not a regular file and is skipped; keep only service files in this folder"),
    "unknown-kind": (_E, "there is no kind of configuration called {kind!r}; write one of: {known}"),
    "option-unused": (_W, "{option} does nothing, for this file is {kind}; {remedy}"),
    # -- every reader
    "too-many-entries": (_E, "this configuration has more than {most} services, and what begins here is not read; divide it among several daemons"),
    "nul-byte": (_E, "this line holds a NUL byte and cannot be used; write the file as plain text"),
    # -- xinetd.conf: the grammar
    "no-keyword": (_E, "{word!r} begins no entry; write `service NAME`, `defaults`, `include FILE` or `includedir FOLDER`"),
    "no-service-name": (_E, "`service` has no name; write `service NAME`"),
    "no-path": (_E, "`{keyword}` has no path; write `{keyword} /path`"),
    "no-open-brace": (_E, "no `{{` after `{entry}`; put `{{` alone on the line after it"),
    "slash-comment": (_E, "{word!r} begins no comment, so this line cannot be used; write `#` in its place"),
    "close-in-line": (_E, "`}}` behind a value does not close `{entry}`; put it alone on the next line"),
    "name-skipped": (_N, "{path!r} is not read: files of an includedir with a dot in the name, or `~` at its end, are skipped; rename it if it is meant"),
    "log-relative": (_W, "the log {path!r} is in the folder where the daemon is started, now {full}; write an absolute path"),
    "log-place": (_W, "log {path}: {why}"),
    "disabled": (_N, "service {service} is disabled {how}; remove that to have it started"),
    "stray-open": (_E, "`{{` without `service NAME` or `defaults` before it, so this block is ignored; write the missing line above it"),
    "stray-close": (_E, "`}}` without an open entry; remove it"),
    "no-close-brace": (_E, "`{entry}` (line {line}) is not closed by a `}}`; put `}}` alone on a line after its last attribute"),
    "no-operator": (_E, "{name!r} is not followed by `=`, `+=` or `-=`; write `{name} = VALUE`"),
    "no-attribute": (_E, "no attribute name before `{operator}`; write `NAME {operator} VALUE`"),
    "second-defaults": (_W, "only the first `defaults` of a file counts and this one is ignored; merge the two"),
    "text-after-brace": (_W, "text after `{brace}` is ignored; put it on a line of its own"),
    "entry-after-brace": (_W, "an entry begins behind a `}}`, where xinetd loses it; put it on a line of its own"),
    "words-behind": (_W, "{word!r} and whatever follows it in the line are ignored; write a line for each"),
    "include-in-block": (_E, "`{keyword}` does not stand in a block; put it before the block, or after its `}}`"),
    # -- attributes (xinetd.conf and TOML)
    "trailing-comment": (_W, "`#` begins a comment only at the start of a line: {name} is read as {value!r}; put the comment on a line of its own"),
    "hash-in-arguments": (_N, "`#` does not begin a comment in {name}: it and the words after it are passed on; put a comment on a line of its own"),
    "unknown-attribute": (_W, "there is no attribute {name!r}, it is ignored; {remedy}"),
    "not-in-defaults": (_W, "{name} has no meaning in `defaults` and is ignored; write it in each service"),
    "only-in-defaults": (_W, "{name} belongs in `defaults` and is ignored here; {remedy}"),
    "already-set": (_W, "{name} is already set, the first value stays; remove one of the two lines"),
    "list-replaced": (_W, "this `=` replaces the {name} of line {line}, of which nothing is left; write `{name} +=` to have both, or remove one of the lines"),
    "bind-adds": (_N, "this adds to the addresses of line {line}, where xinetd takes the first alone; write all on one line, or remove what is not meant"),
    "bind-within": (_N, "{value!r} of bind is within {socket}, which is listened on; remove one of the two"),
    "bind-family": (_W, "{what} does not go with the address {value!r}, which alone is listened on; remove one of the two"),
    "log-type-again": (_W, "log_type is already set, the last one counts; remove one of the two lines"),
    "wrong-operator": (_W, "{name} takes only {operators}, so this line is ignored; write `{name} = VALUE`"),
    "cannot-take-away": (_E, "{name} does not take `-=`; write with `=` or `+=` what shall be there"),
    "wrong-count": (_W, "{name} takes {wanted} and has {given}, so this line is ignored; write {syntax}"),
    "bad-count": (_E, "{name} takes {wanted} and has {given}; write {syntax}"),
    "bad-value": (_E, "{name} cannot be {value!r}{problem}; write {syntax}"),
    "bad-default": (_E, "{name} cannot be {value!r}{problem}, and a configuration with bad `defaults` is not used; write {syntax}"),
    "not-implemented": (_W, "{what} has no effect in this release; remove it, or do without"),
    "not-started": (_E, "{what} is not part of this release, so service {service} is not started; {remedy}"),
    "unknown-id": (_N, "no service has the id {value!r}; remove it from {name} or mend it"),
    "in-xinetd": (_N, "{what} in xinetd; change it only if xinetd is to read the file, too"),
    # -- services as a whole (xinetd.conf and TOML)
    "missing-attribute": (_E, "service {service} has no {name}{reason}; write `{name} = {syntax}`"),
    "no-such-internal": (_E, "there is no built-in service {service} for {socket_type}; built in are: {known}"),
    "dgram-nowait": (_W, "service {service} reads datagrams, so it is started with wait = yes; write `wait = yes`"),
    "no-name-in-args": (_W, "NAMEINARGS needs a first word in server_args, the program's own name is taken; write it there"),
    "socket-and-protocol": (_E, "socket_type {socket_type} does not go with protocol {protocol}; write {remedy}"),
    "handler-needs": (_E, "service {service} has a handler, which needs {what}; write `{what}`, or a server in its place"),
    "handler-and-server": (_E, "service {service} has both a server and a handler; remove one of the two"),
    # -- inetd.conf
    "unknown-dialect": (_E, "there is no dialect of inetd.conf called {dialect!r}; write one of: {known}"),
    "inetd-fields": (_E, "this line ends before its {field}; write SERVICE SOCKET-TYPE PROTOCOL wait|nowait USER PROGRAM ARGUMENTS"),
    "inetd-service": (_E, "{value!r} is not a service{problem}; write a name of /etc/services, a port from 1 to 65535 or ADDRESS:SERVICE"),
    "inetd-socket-type": (_E, "the socket type cannot be {value!r}; write {syntax}"),
    "inetd-protocol": (_E, "the protocol cannot be {value!r} in the {dialect} dialect; write one of: {known}"),
    "inetd-pair": (_E, "socket type {socket_type} does not go with protocol {protocol}; write {remedy}"),
    "inetd-buffer": (_E, "{value!r} is not a buffer size; write rcvbuf=BYTES or sndbuf=BYTES, with k or m if wanted"),
    "inetd-wait": (_E, "the fourth field cannot be {value!r}; write wait or nowait, with {syntax} for a limit"),
    "inetd-limit": (_W, "{value!r} is not a limit, the usual one of {usual} counts; write {syntax}"),
    "inetd-group": (
        _W,
        "the group in {value!r} is not set, as in the {dialect} dialect's inetd; leave it out or name another user",
    ),
    "inetd-foreign": (_W, "{value!r} is the way of another inetd, taken as {meaning}; write {syntax}"),
    "inetd-per-minute": (_W, "the second number of {value!r}, connections per minute and address, has no effect; remove it"),
    "inetd-user": (_E, "{value!r} is not a user; write USER or USER:GROUP"),
    "inetd-server": (_E, "the program cannot be {value!r}; write its absolute path, or internal"),
    "inetd-attribute": (_W, "{value!r} behind the program {reason} and is ignored; {remedy}"),
    "inetd-internal": (_E, "there is no built-in service {service} for {socket_type}; built in are: {known}"),
    "inetd-dgram-nowait": (_W, "{service} reads datagrams, so it is served as wait; write wait"),
    "inetd-rpc": (_E, "RPC services are not part of this release, so {service} is not started; run its program on its own"),
    "inetd-tcpmux": (_E, "TCPMUX services are not part of this release, so {service} is not started; {remedy}"),
    "inetd-address": (_E, "{value!r} is not an address for {protocol}; write {remedy}"),
    "inetd-quote": (_E, "the quote {value} is not closed; close it on the same line"),
    "inetd-policy": (_W, "IPsec policies have no effect here; remove the line and use the system's own policy"),
    "inetd-key-value": (_E, "entries of the form `SERVICE on KEY = VALUE ;` are not read; write the six fields on one line"),
    # -- TOML
    "toml-syntax": (_E, "{reason}; mend the file, nothing of it is used"),
    "toml-type": (_E, "{name} cannot be {kind}; write {syntax}"),
    "toml-table": (_W, "there is no table or key {name!r} here, it is ignored; write [defaults], [service.NAME], include or includedir"),
    # -- the Plan: what the machine knows of users, programs and ports
    "no-user": (_E, "there is no user {value!r}; create it or name another"),
    "no-group": (_E, "there is no group {value!r}; create it or name another"),
    "not-own-user": (_E, "service {service} wants to run as {value}, which only root can arrange; write `user = {own}` or start as root"),
    "not-own-group": (_E, "service {service} wants {what}, which only root can arrange; remove it or start as root"),
    "not-own-nice": (_E, "service {service} wants nice = {value}, above the daemon's own priority, which takes root or CAP_SYS_NICE; remove it or start with these"),
    "cannot-become": (_E, "service {service} cannot have {what} here: {reason}; {remedy}"),
    "groups-stay": (_W, "service {service} keeps the daemon's supplementary groups: {reason}; {remedy}"),
    "socket-owner": (_E, "service {service} cannot give its socket to another owner or group: {reason}; {remedy}"),
    "low-port": (_W, "service {service} cannot listen on port {port}: ports below {lowest} are root's, and want CAP_NET_BIND_SERVICE in the network's own user namespace; give the daemon that capability, or choose a higher port"),
    "cannot-kill": (_W, "servers of other users than the daemon's cannot be told to end: {reason}; {remedy}"),
    "no-gain": (_W, "service {service} starts {value}, which is set-user-ID or set-group-ID: without effect, for the daemon runs under no_new_privs; start it without (NoNewPrivileges= of a unit), or let another program do that"),
    "roles-as-root": (_W, "the processes that read what clients say, relay, doorman and monitor, cannot leave {what} behind: {reason}; they are without any capability, but {remedy}"),
    "limit-cut": (_W, "{name} cannot be {value} here, {most} counts; write no more than that, or start as root with CAP_SYS_RESOURCE"),
    "user-without-entry": (_E, "user {value} has no entry in the user database, so its groups are unknown; write `groups = no`"),
    "cannot-exec": (_W, "service {service}: {value} cannot be executed: {reason}; mend the program"),
    "no-program": (_E, "{value!r} cannot be started: {reason}; install it or mend the path"),
    "no-port": (_E, "{name}/{protocol} is not in /etc/services{absent}; add it there, or write `port = NUMBER` and `type = UNLISTED` (in inetd.conf the number in place of the name)"),
    "unlisted": (_W, "{name}/{protocol} is not in /etc/services, the port as written counts; write `type = UNLISTED`"),
    "other-port": (_W, "{name}/{protocol} is port {listed} in /etc/services, the port as written counts; write `type = UNLISTED`"),
    "raw-socket": (_E, "socket type {value} is not served; write stream or dgram"),
    "unix-without-path": (_E, "a unix socket needs an absolute path of at most {most} bytes; write `bind = /PATH`"),
    "bad-address-entry": (_W, "{name}: {value!r} {reason} and does not count; {remedy}"),
    "counts-as": (_W, "{name}: {value!r} counts as {counts}; write it so, or what is meant"),
    "refusal-overruled": (_W, "{refused!r} of no_access does not keep out {value!r}, which is more specific (only_from at {where}) and counts here, where xinetd refuses; remove the one that is not meant"),
    "no-host": (_W, "{value!r} is no address, and neither an interface nor a host name that is known here, so nobody can connect to it until it is; mend it, or write the address"),
    "no-client": (_W, "{name}: {value!r} is neither an address nor a host name that is known here, and is no client's until it is; mend it, or write the address (all of them: 0.0.0.0 and ::/0)"),
    "only-from-nobody": (_W, "no entry of only_from can be read, so {whose} refuses everybody; {remedy}"),
    "cannot-posix-spawn": (_E, "posix_spawn cannot set {what}; write `spawn_primitive = auto`"),
    "no-clone": (_E, "this system does not allow the start that {what} needs; allow clone with CLONE_VFORK here"),
    "wait-access": (_W, "service {service} accepts its clients itself, so their addresses cannot be checked; let the server check them, or write `wait = no`"),
    "unix-access": (_E, "service {service} is not started: clients of a unix socket have no address that {name} could be held against; use socket_mode, socket_user and socket_group in its place"),
    "unix-access-inherited": (_W, "{name} of `defaults` does not protect service {service}: clients of a unix socket have no address; use socket_mode, socket_user and socket_group"),
    "per-source-unused": (_W, "per_source has no effect on service {service}: {reason}; {remedy}"),
    "no-effect-here": (_W, "{name} has no effect on service {service}: {reason}; remove it"),
    "spare-order": (_W, "min_spare = {low} of service {service} is above {name} = {most}, which counts; write `min_spare = {most}`, or more for {name}"),
    "pool-refused": (_W, "service {service} is served by exec and not by {kind}: {reason}; {remedy}, or write `spawn = exec`"),
    "pool-unguarded": (_W, "other processes of user {user} can change what clients of service {service} get while its pool starts; allow the daemon CAP_NET_BROADCAST or CAP_WAKE_ALARM (containers: --cap-add NET_BROADCAST), or let nothing else run as {user}"),
    "no-interpreter": (_E, "the handler of service {service} cannot be started: {reason}; {remedy}"),
    "no-handler": (_W, "there is no module {value!r} where service {service} looks for its handler; write its folder as `env = PYTHONPATH=/FOLDER`, or install it for {python}"),
    "too-many-services": (_E, "service {service} and {more} after it are not started: one daemon has {most} services at most; divide them among several"),
    "same-socket": (_E, "service {service} wants {socket}, which service {other} at {place} already has{within}; give it another port or address"),
    "tcp-wrappers": (_W, "{file} holds rules, but tcp wrappers are not consulted; write them as only_from and no_access"),
    # -- further modules add theirs below, each group under a heading of its own
}
"""Code -> severity and text, which names the fault and, after a semicolon, the remedy."""

DIAGNOSTICS_KEPT = 1000
"""Diagnostics of each severity that a Report keeps. A file that is no configuration has one for each line, and would
fill memory and logs."""


class Report:
    """Diagnostics collected while a configuration is read and planned, to be iterated in the order of their coming.

    The first DIAGNOSTICS_KEPT of each severity are kept, further ones counted. Equal ones at one place count as one: a value
    of `defaults` has the same fault in each service.
    """

    def __init__(self, *, differences: bool = False) -> None:
        """`differences`: notes on what xinetd would make of the configuration are wanted, for --check."""
        self.differences = differences
        self._kept: dict[tuple[Place, str], Diagnostic] = {}
        self._counts = dict.fromkeys(Severity, 0)
        self._shown = dict.fromkeys(Severity, 0)

    def add(self, code: str, place: Place, /, *, service: str | None = None, **values: object) -> None:
        """Keep CATALOGUE[code] at `place`, its text filled in with `values` and `service`; KeyError for what is missing."""
        severity, text = CATALOGUE[code]
        if self.is_full(code):
            self._counts[severity] += 1
            return
        text = text.format_map({"service": service, **values})
        if (place, text) not in self._kept:
            self._kept[place, text] = Diagnostic(code, place, severity, text, service)
            self._counts[severity] += 1
            self._shown[severity] += 1

    def is_full(self, code: str) -> bool:
        """Whether a further diagnostic with the severity of `code` would only be counted."""
        return self._shown[CATALOGUE[code][0]] >= DIAGNOSTICS_KEPT

    @property
    def errors(self) -> int:
        """The number of errors, with those that are not kept."""
        return self._counts[Severity.ERROR]

    @property
    def left_out(self) -> str:
        """How many diagnostics were counted and not kept, as text for a message; "" when all were kept."""
        more = {severity: self._counts[severity] - self._shown[severity] for severity in Severity}
        return " and ".join(f"{number} more {severity.value}{'s' * (number > 1)}" for severity, number in more.items() if number)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self._kept.values())
