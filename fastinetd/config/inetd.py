"""Reader of inetd.conf: text and a dialect in, a Config out.

A line is `SERVICE SOCKET-TYPE PROTOCOL wait|nowait USER PROGRAM ARGV0 ARGUMENTS...`. Differences between systems are
in dialects.py; a word that is foreign to the chosen dialect but has one plain meaning is taken with a warning. A bad
line is reported at the word that is wrong and skipped; no line can harm another one.

A server gets its arguments as written, argv[0] first, and the supplementary groups of its user. A service may start
as often in a minute as the dialect allows, unless its line has a limit; further connections wait, where the inetds
switch the service off.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from fastinetd.config.diagnostics import Report
from fastinetd.config.dialects import DIALECTS, Dialect
from fastinetd.config.entries import MOST_ENTRIES, clip_value
from fastinetd.config.inetd_lines import BadLine, Word, logical_lines
from fastinetd.config.inetd_pool import split_pool, take_pool
from fastinetd.config.model import Config, Family, GroupsOfRoot, Place, Rate, Service
from fastinetd.config.settings import INTERNALS
from fastinetd.config.values import BadValue, may_be_host, number, octal, size
from fastinetd.config.whole import handler_faults

RATE_PERIOD = 60.0
"""The period over which the N of `nowait.N` is counted."""
RATE_PAUSE = 600
"""Seconds for which inetds switch a service off; here they count with `over_rate = close` alone."""

_FIELDS = ("service", "socket type", "protocol", "wait or nowait", "user", "program")
_PROTOCOLS = {
    "tcp": ("tcp", None),
    "tcp4": ("tcp", Family.IPV4),
    "tcp6": ("tcp", None),
    "tcp46": ("tcp", Family.DUAL),
    "tcp6only": ("tcp", Family.IPV6),
    "udp": ("udp", None),
    "udp4": ("udp", Family.IPV4),
    "udp6": ("udp", None),
    "udp46": ("udp", Family.DUAL),
    "udp6only": ("udp", Family.IPV6),
    "unix": ("unix", Family.UNIX),
}
"""Third word of a line -> protocol, and the address family unless the dialect decides it."""

_SOCKET_TYPES = {"stream": ("tcp", "unix"), "dgram": ("udp", "unix"), "seqpacket": ("unix",)}
"""Socket type -> the protocols that it goes with."""

_WAIT = re.compile(r"(wait|nowait)(?:([.:/])(.*))?", re.DOTALL)


def read_inetd(
    text: str, file: str, dialect: str, report: Report, *, as_xinetd: bool = False, keep_environment: bool = False
) -> Config:
    """The services of an inetd.conf; `Config.fatal` for a dialect that does not exist.

    `file` is the name for messages. `as_xinetd`: servers get groups and environment as from xinetd -inetd_compat;
    `keep_environment`: they get the whole environment, though the dialect's inetd removes variables from it. Errors go
    to `report`; nothing is raised.
    """
    rules = DIALECTS.get(dialect)
    if rules is None:
        report.add("unknown-dialect", Place(file, 1), dialect=dialect, known=", ".join(sorted(DIALECTS)))
        return Config(file, (), fatal=True)
    reader = _Reader(file, rules, report)
    reader.groups_of_root = None if as_xinetd else rules.root
    reader.scrubbed = () if as_xinetd or keep_environment else rules.scrubbed
    for words in logical_lines(text, file, rules, report):
        if len(reader.services) >= MOST_ENTRIES:
            report.add("too-many-entries", Place(file, words[0].line, words[0].column), most=MOST_ENTRIES)
            break
        reader.take_line(words)
    return Config(file, tuple(reader.services))


class _Reader:
    """Turns lines into services; keeps the addresses of the last line `ADDRESS:` and the ids in use."""

    def __init__(self, file: str, rules: Dialect, report: Report) -> None:
        self.file = file
        self.rules = rules
        self.report = report
        self.services: list[Service] = []
        self.groups_of_root: GroupsOfRoot | None = None
        self.scrubbed: tuple[str, ...] = ()
        self._addresses: tuple[Word, ...] = ()  # of the last line `ADDRESS:`
        self._ids: set[str] = set()
        self._copies: dict[str, int] = {}  # by name: the last number that was tried for it

    def take_line(self, words: list[Word]) -> None:
        """Append the service of a logical line, keep its addresses if it is `ADDRESS:`, or report what is wrong."""
        first = words[0]
        try:
            if len(words) == 1 and first.text.endswith(":") and not first.text.startswith("/") and self.rules.addresses:
                self._addresses = self._split_hosts(first, first.text[:-1])
            else:
                self.services.append(self._make_service(words))
        except BadLine as bad:
            self.report.add(bad.code, self._place_of(bad.word), **{"service": first.text, **bad.values})

    def _place_of(self, word: Word) -> Place:
        """The place of a word in this file."""
        return Place(self.file, word.line, word.column)

    def _make_service(self, words: list[Word]) -> Service:
        """The service of a logical line. Raises BadLine."""
        if len(words) > 2 and words[1].text in ("on", "off") and any("=" in word.text for word in words[2:4]):
            raise BadLine("inetd-key-value", words[1])
        if len(words) < len(_FIELDS):
            raise BadLine("inetd-fields", words[-1], field=_FIELDS[len(words)])
        first, socket_type, protocol, wait, user, server, *arguments = words
        values: dict[str, Any] = {}
        places = {
            name: self._place_of(word)
            for name, word in zip(
                ("socket_type", "protocol", "wait", "cps", "user", "group", "server"),
                (socket_type, protocol, wait, wait, user, user, server),
            )
        }
        self._read_protocol(first, protocol, socket_type, values)
        self._read_name(first, protocol, values, places)
        self._read_wait(wait, values)
        self._read_user(user, values)
        written_name = values["name"]  # before `internal`, which drops an address from it
        server, pool = split_pool(server)
        take_pool(pool, self.file, first.text, values, places, self.report)
        self._read_server(first, server, values)
        if arguments:
            if "handler" not in values:
                values["argv"] = tuple(word.text for word in arguments)
            places["server_args"] = self._place_of(arguments[0])
        elif "server" in values:
            path = values["server"]
            values["argv"] = (path if self.rules.whole_argv0 else path.rpartition("/")[2],)
        if values["socket_type"] == "dgram" and not values["wait"]:
            self.report.add("inetd-dgram-nowait", places["wait"], service=clip_value(first.text))
            values["wait"] = True
        for code, what in handler_faults(values):
            raise BadLine(code, Word("", places["handler"].line, places["handler"].column), **what)
        values["id"] = self._choose_id(written_name, values["protocol"])
        return Service(
            place=self._place_of(first), groups=True, groups_of_root=self.groups_of_root, scrubbed=self.scrubbed,
            numbered=True, places=MappingProxyType(places), **values
        )

    def _choose_id(self, name: str, protocol: str) -> str:
        """An id that no line before has: the service's name; if in use NAME-PROTOCOL; if in use NAME-NUMBER, from 2."""
        found = name
        if found in self._ids:
            found = f"{name}-{protocol}"
        while found in self._ids:
            self._copies[name] = self._copies.get(name, 1) + 1
            found = f"{name}-{self._copies[name]}"
        self._ids.add(found)
        return found

    def _read_protocol(self, first: Word, word: Word, kind: Word, values: dict[str, Any]) -> None:
        """Read protocol, address family, buffer sizes and socket type into `values`. Raises BadLine."""
        name, *options = word.text.split(",")
        if name.startswith("rpc/"):
            raise BadLine("inetd-rpc", word, service=clip_value(first.text))
        known = _PROTOCOLS.get(name)
        if known is None or (name not in self.rules.protocols and name not in ("tcp6only", "udp6only")):
            raise BadLine(
                "inetd-protocol",
                word,
                value=clip_value(name),
                dialect=self.rules.name,
                known=" ".join(self.rules.protocols),
            )
        protocol, family = known
        if family is None:
            family = self.rules.six if name.endswith("6") else self.rules.plain
        if name not in self.rules.protocols:  # tcp6only, udp6only
            self.report.add(
                "inetd-foreign", self._place_of(word), value=name, meaning=f"{protocol}6", syntax=f"{protocol}6"
            )
        for option in options:
            key, equals, amount = option.partition("=")
            bytes_ = size(amount) if equals else None
            if key not in ("rcvbuf", "sndbuf") or bytes_ is None or not 0 < bytes_ < 2**31:
                raise BadLine("inetd-buffer", word, value=clip_value(option))
            values["receive_buffer" if key == "rcvbuf" else "send_buffer"] = bytes_
        socket_type = kind.text
        allowed = _SOCKET_TYPES.get(socket_type)
        if allowed is None:
            raise BadLine("inetd-socket-type", kind, value=clip_value(socket_type), syntax="stream, dgram or seqpacket")
        if protocol not in allowed:
            wanted = {"tcp": "stream", "udp": "dgram", "unix": "stream or dgram"}[protocol]
            raise BadLine("inetd-pair", kind, socket_type=socket_type, protocol=name, remedy=wanted)
        values.update(protocol=protocol, family=family, socket_type=socket_type)

    def _read_name(self, first: Word, protocol: Word, values: dict[str, Any], places: dict[str, Place]) -> None:
        """Read name, port and addresses, or a unix socket's path, into `values`. Raises BadLine."""
        text = first.text
        if values["protocol"] == "unix":
            self._read_socket_path(first, values)
            places["bind"] = self._place_of(first)
            return
        name, hosts = text, self._addresses
        if ":" in text and self.rules.addresses:
            addresses, _, name = text.rpartition(":")
            hosts = self._split_hosts(first, addresses)
        port = number(name)
        if name.startswith("tcpmux/"):
            raise BadLine("inetd-tcpmux", first, service=clip_value(name), remedy="give it a port of its own")
        if not name or "/" in name or ":" in name:
            raise BadLine("inetd-service", first, value=clip_value(text), problem="")
        if port is not None:
            if not self.rules.numbers:
                self.report.add(
                    "inetd-foreign",
                    self._place_of(first),
                    value=clip_value(name),
                    meaning=f"port {port}",
                    syntax="a name of /etc/services",
                )
            if not 0 < port < 65536:
                raise BadLine("inetd-service", first, value=clip_value(text), problem="")
            values["port"], values["types"] = port, frozenset({"UNLISTED"})
            places["port"] = self._place_of(first)
        values["name"] = name
        values["family"] = self._narrow_family(values["family"], hosts, protocol)
        if hosts:
            values["bind"] = tuple(host.text for host in hosts)
            values["spots"] = MappingProxyType({"bind": tuple(map(self._place_of, hosts))})
            places["bind"] = self._place_of(hosts[0])

    def _split_hosts(self, first: Word, text: str) -> tuple[Word, ...]:
        """The addresses of `ADDRESS,ADDRESS:`; () for all addresses, so for `*` among them. Raises BadLine."""
        hosts = []
        column = first.column
        for part in text.split(","):
            host = part[1:-1] if part.startswith("[") and part.endswith("]") else part
            odd = "[" in host or "]" in host or "/" in host or not may_be_host(host or "*")
            if odd or (not host and text):
                raise BadLine(
                    "inetd-address",
                    first,
                    value=clip_value(part),
                    protocol="a service",
                    remedy="an address, [IPv6 address], a host name or *",
                )
            if host not in ("*", ""):
                hosts.append(Word(host, first.line, column))
            column += len(part) + 1
        return tuple(hosts) if len(hosts) == text.count(",") + 1 else ()

    def _narrow_family(self, family: Family, hosts: tuple[Word, ...], protocol: Word) -> Family:
        """The protocol's address family, narrowed to that of the addresses. Raises BadLine when they contradict."""
        six = [":" in host.text for host in hosts]
        four = [_is_ipv4(host.text) for host in hosts]
        for index, host in enumerate(hosts):
            if (family is Family.IPV4 and six[index]) or (family is Family.IPV6 and four[index]):
                base = protocol.text[:3]
                remedy = f"{base}6 or an IPv4 address" if six[index] else f"{base} or an IPv6 address"
                raise BadLine("inetd-address", host, value=clip_value(host.text), protocol=protocol.text, remedy=remedy)
        if family in (Family.SPLIT, Family.DUAL) and hosts:
            if all(four):
                return Family.IPV4
            if family is Family.SPLIT and all(six):
                return Family.IPV6
        return family

    def _read_socket_path(self, first: Word, values: dict[str, Any]) -> None:
        """Read a unix socket's path, with FreeBSD's `:user:group:mode:` before it, into `values`. Raises BadLine."""
        text = first.text
        if text.startswith(":") and text.count(":") >= 4:
            user, group, mode, text = text[1:].split(":", 3)
            try:
                values["socket_mode"] = octal(0o7777)([mode]) if mode else None
            except BadValue:
                raise BadLine(
                    "inetd-service", first, value=clip_value(first.text), problem=", its mode is not octal"
                ) from None
            values["socket_user"], values["socket_group"] = user or None, group or None
        if not text.startswith("/"):
            raise BadLine(
                "inetd-service",
                first,
                value=clip_value(text),
                problem=" in the file system: a unix socket needs an absolute path",
            )
        values["name"], values["bind"] = text, (text,)

    def _read_wait(self, word: Word, values: dict[str, Any]) -> None:
        """Read wait or nowait, and the limit behind it, into `values`. Raises BadLine."""
        match = _WAIT.fullmatch(word.text)
        if match is None:
            raise BadLine("inetd-wait", word, value=clip_value(word.text), syntax=self.rules.limit_syntax)
        kind, sign, limit = match.groups()
        values["wait"] = kind == "wait"
        usual = Rate(self.rules.rate, RATE_PERIOD, RATE_PAUSE) if self.rules.rate else None
        values["rate"] = usual
        if sign is None:
            return
        parts = limit.split("/") if sign == "/" else [limit]
        numbers = [number(part) for part in parts]
        if len(parts) > 3 or any(value is None or value > 2**31 - 1 for value in numbers):
            self.report.add(
                "inetd-limit",
                self._place_of(word),
                value=clip_value(word.text),
                usual=self.rules.rate or "none",
                syntax=self._limit_syntax(kind, self.rules.limits[0]),
            )
            return
        counts = [value or 0 for value in numbers] + [0, 0]  # numbers that are not written are 0: no limit
        if sign == "/":
            values["instances"], values["per_source"] = counts[0] or None, counts[2] or None
            sharing = " that share the socket" if values["wait"] else ""
            meaning = f"{counts[0] or 'any number of'} servers at a time{sharing}"
        else:
            values["rate"] = Rate(counts[0], RATE_PERIOD, RATE_PAUSE) if counts[0] else None
            meaning = f"{counts[0] or 'any number of'} starts in a minute"
        if sign not in self.rules.limits:
            self.report.add(
                "inetd-foreign",
                self._place_of(word),
                value=clip_value(word.text),
                meaning=meaning,
                syntax=self._limit_syntax(kind, sign),
            )
        if counts[1]:
            self.report.add("inetd-per-minute", self._place_of(word), value=clip_value(word.text))

    def _limit_syntax(self, kind: str, sign: str) -> str:
        """How to write a limit behind `sign` in this dialect or, if it has no such limit, the dialect that has."""
        if self.rules.children is (sign == "/"):
            return self.rules.limit_syntax.replace("nowait", kind)
        other = {"/": "freebsd", ":": "netbsd", ".": "debian"}[sign]
        return f"{kind} alone, or read the file with --dialect {other}"

    def _read_user(self, word: Word, values: dict[str, Any]) -> None:
        """Read USER, USER:GROUP or USER.GROUP into `values`. Raises BadLine."""
        user, slash, _ = word.text.partition("/")  # a login class follows the slash; Linux has none
        if slash:
            place, value = self._place_of(word), clip_value(word.text)
            self.report.add("inetd-foreign", place, value=value, meaning=user, syntax=user)
        sign = "." if "." in user else ":"
        name, parted, group = user.partition(sign)
        if not name or (parted and not group) or ":" in name or ":" in group:
            raise BadLine("inetd-user", word, value=clip_value(word.text))
        values["user"] = name
        if parted:
            values["group"] = self._choose_group(word, name, group)

    def _choose_group(self, word: Word, user: str, group: str) -> str | None:
        """The group that servers get: some inetds do not set the group of the line for root, or root's group."""
        found: str | None = group
        if self.groups_of_root is None:  # xinetd sets every group
            return group
        if user in ("root", "0") and self.rules.no_group_of_root:
            found = "0" if self.groups_of_root is GroupsOfRoot.DAEMON else None
        elif group in ("root", "0") and self.rules.no_group_root:
            found = None
        if found != group and group not in ("root", "0"):
            self.report.add("inetd-group", self._place_of(word), value=clip_value(word.text), dialect=self.rules.name)
        return found

    def _read_server(self, first: Word, word: Word, values: dict[str, Any]) -> None:
        """Read the program, or `internal`, into `values`. Raises BadLine."""
        if word.text == "internal":
            name = values["name"].rpartition("/")[2]  # of a unix socket's path the last part
            socket_type = values["socket_type"]
            known = INTERNALS.get(socket_type, ())
            if name == "tcpmux":
                raise BadLine("inetd-tcpmux", first, service=name, remedy="remove this line")
            if name not in known:
                raise BadLine(
                    "inetd-internal",
                    first,
                    service=clip_value(name),
                    socket_type=socket_type,
                    known=", ".join(known) or "none",
                )
            values["name"] = name
            values["types"] = values.get("types", frozenset()) | {"INTERNAL"}
        elif not word.text and "handler" in values:
            return  # `;handler=MODULE:FUNCTION` stands in place of the program
        elif word.text.startswith("/") or (self.rules.relative and word.text and "/" not in word.text):
            values["server"] = word.text
        else:
            raise BadLine("inetd-server", word, value=clip_value(word.text))


def _is_ipv4(text: str) -> bool:
    """Whether a text is four numbers below 256 with dots between them."""
    parts = text.split(".")
    return len(parts) == 4 and all((number(part) or 0) < 256 and number(part) is not None for part in parts)
