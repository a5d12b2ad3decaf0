"""Checks of a service as a whole: attributes that are missing, follow from others, or contradict one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import Entry, clip_value, place_of
from fastinetd.config.interpret import Block
from fastinetd.config.model import Place
from fastinetd.config.settings import INTERNALS, SETTINGS

_PORTLESS = frozenset({"RPC", "TCPMUX", "TCPMUXPLUS"})
_SOCKETS = {"tcp": ("stream",), "udp": ("dgram",), "unix": ("stream", "dgram", "seqpacket")}
"""Socket types by protocol, where the kernel leaves no doubt."""


def complete_service(
    entry: Entry, block: Block, values: dict[str, Any], name: str, report: Report, *, toml: bool
) -> bool:
    """Whether the service can be started; adds the values that follow from others, and reports contradictions.

    `values` are those of `block` and, where it has none, of `defaults`; `name` is the name of /etc/services or of the
    built-in service; remedies are in TOML if `toml` is set. An attribute that is missing is reported too, unless its
    line has been.
    """
    return _Check(entry, block, values, name, report, toml=toml).check_all()


def handler_faults(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Values that contradict a handler, or defaults that do: code of the diagnostic and the values of its text."""
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
    """The checks of one service; `sound` is their result."""

    def __init__(
        self, entry: Entry, block: Block, values: dict[str, Any], name: str, report: Report, *, toml: bool
    ) -> None:
        self.entry = entry
        self.failed = block.failed | entry.failed
        self.values = values
        self.name = name
        self.report = report
        self.toml = toml
        self.types: frozenset[str] = values.get("types", frozenset())
        self.sound = True

    def check_all(self) -> bool:
        """Whether the service can be started; adds to `values` and reports."""
        values = self.values
        self._check_protocol()
        if "wait" not in values:
            self._report_missing("wait")
        self._check_address()
        if "INTERNAL" in self.types:
            self._check_internal()
        else:
            if values.get("user") is None:
                self._report_missing("user")
            others = {"redirect", "handler"}
            if values.get("server") is None and not others & (values.keys() | self.failed):
                self._report_missing("server")
            for code, what in handler_faults(values):
                self._report_error(code, self._place_of("handler"), **what)
            if values.get("socket_type") == "dgram" and values.get("wait") is False:
                self.report.add("dgram-nowait", self._place_of("wait"), service=self.entry.name)
                values["wait"] = True
        return self.sound

    def _check_protocol(self) -> None:
        """Check that socket type and protocol go together; one that is missing follows from the other."""
        values = self.values
        socket_type, protocol = values.get("socket_type"), values.get("protocol")
        if protocol is None and socket_type in ("stream", "dgram") and "protocol" not in self.failed:
            values["protocol"] = protocol = "tcp" if socket_type == "stream" else "udp"
        elif socket_type is None and protocol in _SOCKETS and "socket_type" not in self.failed:
            values["socket_type"] = socket_type = "dgram" if protocol == "udp" else "stream"
        if socket_type is None and "protocol" not in self.failed:
            self._report_missing("socket_type")
        elif protocol is None and socket_type is not None:  # of neither, socket_type is enough to ask for
            self._report_missing("protocol")
        if socket_type is None or protocol is None:
            self.sound = False
        elif socket_type in ("stream", "dgram") and protocol not in _SOCKETS:
            self._refuse_protocol(socket_type, protocol)
        elif socket_type not in _SOCKETS.get(protocol, (socket_type,)):
            self._report_error(
                "socket-and-protocol",
                self._place_of("protocol"),
                socket_type=socket_type,
                protocol=protocol,
                remedy=f"socket_type = {' or '.join(_SOCKETS[protocol])}",
            )

    def _refuse_protocol(self, socket_type: str, protocol: str) -> None:
        """Report a protocol other than tcp, udp and unix; tcp4 and tcp6, words of inetd.conf, have their own remedy."""
        usual = "tcp" if socket_type == "stream" else "udp"
        family = {f"{usual}4": " and `flags = IPv4`", f"{usual}6": " and `flags = IPv6`"}.get(protocol, "")
        self._report_error(
            "not-started",
            self._place_of("protocol"),
            what=f"protocol = {clip_value(protocol)}",
            remedy=f"write `protocol = {usual}`{family}",
        )

    def _check_address(self) -> None:
        """Check the path of a unix socket, or address and port of any other."""
        values = self.values
        paths = [text for text in values.get("bind", ()) if "/" in text]
        if values.get("protocol") == "unix":
            if not values.get("bind"):
                self._report_missing("bind", ", which is where its unix socket is", "the absolute path of the socket")
            elif not paths:
                self._report_error(
                    "bad-value",
                    self._place_of("bind"),
                    name="bind",
                    value=clip_value(values["bind"][0]),
                    problem=" with protocol = unix",
                    syntax="the absolute path of the socket",
                )
            return
        if paths:
            self._report_error(
                "bad-value",
                self._place_of("bind"),
                name="bind",
                value=clip_value(paths[0]),
                problem="",
                syntax="an address, or protocol = unix",
            )
        if "UNLISTED" in self.types and values.get("port") is None and not self.types & _PORTLESS:
            self._report_missing("port", " although it is UNLISTED")

    def _check_internal(self) -> None:
        """Check that there is a built-in service of this name and socket type."""
        socket_type = self.values.get("socket_type")
        known = INTERNALS.get(socket_type or "", ())
        if self.name.lower() == "tcpmux":
            what = "the built-in service tcpmux"
            self._report_error("not-started", self.entry.place, what=what, remedy="remove the service")
        elif "SENSOR" in self.values.get("flags", ()):
            self.sound = False  # already reported: a SENSOR has no built-in service
        elif socket_type and self.name.lower() not in known:
            self._report_error(
                "no-such-internal",
                self.entry.place,
                socket_type=socket_type,
                known=", ".join(known) or "none",
            )

    def _report_error(self, code: str, place: Place, **values: object) -> None:
        """Report an error for which the service is not started."""
        self.report.add(code, place, service=self.entry.name, **values)
        self.sound = False

    def _report_missing(self, attribute: str, reason: str = "", syntax: str = "") -> None:
        """Report an attribute that is not written, unless an error about it has been reported."""
        self.sound = False
        if self.entry.broken and not self.entry.lines:
            return  # the block is missing, which has been reported
        if attribute not in self.failed:
            syntax = syntax or SETTINGS[attribute].syntax_in(toml=self.toml)
            self._report_error("missing-attribute", self.entry.place, name=attribute, reason=reason, syntax=syntax)

    def _place_of(self, name: str) -> Place:
        """The place of an attribute's first value; that of the service when the attribute is not written."""
        for line in self.entry.lines:
            if line.name == name:
                return place_of(self.entry, line, 0)
        return self.entry.place
