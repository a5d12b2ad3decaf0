"""Checks of a service as a whole: what it lacks, what follows from the rest, what does not go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import Entry, place_of, shown
from fastinetd.config.interpret import Block
from fastinetd.config.model import Place
from fastinetd.config.settings import INTERNALS, SETTINGS

_PORTLESS = frozenset({"RPC", "TCPMUX", "TCPMUXPLUS"})
_SOCKETS = {"tcp": ("stream",), "udp": ("dgram",), "unix": ("stream", "dgram", "seqpacket")}
"""Socket types by protocol, where the kernel leaves no doubt."""


def complete(entry: Entry, block: Block, values: dict[str, Any], name: str, report: Report,
             *, toml: bool) -> bool:
    """Fill in what follows from the other values, and report what is missing or contradicts itself.

    `values` are those of the service and, below them, of `defaults`; `name` is the name it is looked up by; `toml`
    tells the format that remedies are written in. False when the service cannot be started. An attribute that has an
    error of its own is not also called missing.
    """
    return _Check(entry, block, values, name, report, toml=toml).all()


def handler_faults(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """What does not go with a handler: message and its values. What nobody wrote is looked at like its default."""
    if values.get("handler") is None or "INTERNAL" in values.get("types", ()):
        return
    for name, wanted, found in (
        ("spawn", "worker", values.get("spawn", "exec")),
        ("wait", "no", "yes" if values.get("wait") else "no"),
        ("socket_type", "stream", values.get("socket_type", "stream")),
    ):
        if found != wanted:
            yield "handler-needs", {"what": f"{name} = {wanted}"}
    if values.get("server") is not None:
        yield "handler-and-server", {}


class _Check:
    """One service under examination."""

    def __init__(self, entry: Entry, block: Block, values: dict[str, Any], name: str, report: Report,
                 *, toml: bool) -> None:
        self.entry = entry
        self.failed = block.failed | entry.failed
        self.values = values
        self.name = name
        self.report = report
        self.toml = toml
        self.types: frozenset[str] = values.get("types", frozenset())
        self.sound = True

    def all(self) -> bool:
        values = self.values
        self._protocol()
        if "wait" not in values:
            self._missing("wait")
        self._address()
        if "INTERNAL" in self.types:
            self._internal()
        else:
            if values.get("user") is None:
                self._missing("user")
            others = {"redirect", "handler"}
            if values.get("server") is None and not others & (values.keys() | self.failed):
                self._missing("server")
            for code, what in handler_faults(values):
                self._bad(code, self._place("handler"), **what)
            if values.get("socket_type") == "dgram" and values.get("wait") is False:
                self.report.add("dgram-nowait", self._place("wait"), service=self.entry.name)
                values["wait"] = True
        return self.sound

    def _protocol(self) -> None:
        """Socket type and protocol: each follows from the other."""
        values = self.values
        socket_type, protocol = values.get("socket_type"), values.get("protocol")
        if protocol is None and socket_type in ("stream", "dgram") and "protocol" not in self.failed:
            values["protocol"] = protocol = "tcp" if socket_type == "stream" else "udp"
        elif socket_type is None and protocol in _SOCKETS and "socket_type" not in self.failed:
            values["socket_type"] = socket_type = "dgram" if protocol == "udp" else "stream"
        if socket_type is None and "protocol" not in self.failed:
            self._missing("socket_type")
        elif protocol is None and socket_type is not None:  # of neither, socket_type is enough to ask for
            self._missing("protocol")
        if socket_type is None or protocol is None:
            self.sound = False
        elif socket_type in ("stream", "dgram") and protocol not in _SOCKETS:
            self._other_protocol(socket_type, protocol)
        elif socket_type not in _SOCKETS.get(protocol, (socket_type,)):
            self._bad(
                "socket-and-protocol",
                self._place("protocol"),
                socket_type=socket_type,
                protocol=protocol,
                remedy=f"socket_type = {' or '.join(_SOCKETS[protocol])}",
            )

    def _other_protocol(self, socket_type: str, protocol: str) -> None:
        """Neither TCP nor UDP; some of the inetds say so of the address family as well."""
        usual = "tcp" if socket_type == "stream" else "udp"
        family = {f"{usual}4": " and `flags = IPv4`", f"{usual}6": " and `flags = IPv6`"}.get(protocol, "")
        self._bad(
            "not-started",
            self._place("protocol"),
            what=f"protocol = {shown(protocol)}",
            remedy=f"write `protocol = {usual}`{family}",
        )

    def _address(self) -> None:
        """Port and address, or the path of a unix socket."""
        values = self.values
        paths = [text for text in values.get("bind", ()) if "/" in text]
        if values.get("protocol") == "unix":
            if not values.get("bind"):
                self._missing("bind", ", which is where its unix socket is", "the absolute path of the socket")
            elif not paths:
                self._bad(
                    "bad-value",
                    self._place("bind"),
                    name="bind",
                    value=shown(values["bind"][0]),
                    problem=" with protocol = unix",
                    syntax="the absolute path of the socket",
                )
            return
        if paths:
            self._bad(
                "bad-value",
                self._place("bind"),
                name="bind",
                value=shown(paths[0]),
                problem="",
                syntax="an address, or protocol = unix",
            )
        if "UNLISTED" in self.types and values.get("port") is None and not self.types & _PORTLESS:
            self._missing("port", " although it is UNLISTED")

    def _internal(self) -> None:
        """A built-in service must be one of those there are."""
        socket_type = self.values.get("socket_type")
        known = INTERNALS.get(socket_type or "", ())
        if self.name.lower() == "tcpmux":
            what = "the built-in service tcpmux"
            self._bad("not-started", self.entry.place, what=what, remedy="remove the service")
        elif "SENSOR" in self.values.get("flags", ()):
            self.sound = False  # already reported, and needs no built-in service of its name
        elif socket_type and self.name.lower() not in known:
            self._bad(
                "no-such-internal",
                self.entry.place,
                socket_type=socket_type,
                known=", ".join(known) or "none",
            )

    def _bad(self, code: str, place: Place, **values: object) -> None:
        self.report.add(code, place, service=self.entry.name, **values)
        self.sound = False

    def _missing(self, attribute: str, reason: str = "", syntax: str = "") -> None:
        self.sound = False
        if self.entry.broken and not self.entry.lines:
            return  # there was no block, which has been reported
        if attribute not in self.failed:
            syntax = syntax or SETTINGS[attribute].asked(toml=self.toml)
            self._bad("missing-attribute", self.entry.place, name=attribute, reason=reason, syntax=syntax)

    def _place(self, name: str) -> Place:
        """Where an attribute is written, or else the service."""
        for line in self.entry.lines:
            if line.name == name:
                return place_of(self.entry, line, 0)
        return self.entry.place
