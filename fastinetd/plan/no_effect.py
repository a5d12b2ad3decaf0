"""Warnings of attributes that have no effect in the service where they are written."""

from __future__ import annotations

from collections.abc import Iterator

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Family, Service
from fastinetd.config.settings import SETTINGS, SPAWN_OF, Of
from fastinetd.core.program import CONNECTION_VARIABLES
from fastinetd.plan.model import Unplannable


def check_effects(service: Service, report: Report) -> None:
    """Report attributes without effect. Raises Unplannable, reported, for access lists of a unix socket's service."""
    unix = service.family is Family.UNIX or service.protocol == "unix"
    for name in service.places:
        if name not in service.inherited:
            for what, reason in _find_idle(name, service, unix):
                report.add("no-effect-here", service.place_of(name), service=service.id, name=what, reason=reason)
    _check_sources(service, unix, report)
    if unix:
        _check_access(service, report)


def _find_idle(name: str, service: Service, unix: bool) -> Iterator[tuple[str, str]]:
    """(what, why) for each part of the attribute `name` that has no effect on the service."""
    if reason := _reason_lacking(SETTINGS[name].of, service, unix):
        if name != "server" or service.server is not None:  # inetd.conf has the word `internal` there
            yield name, reason
    elif name == "env":
        for variable in dict.fromkeys(found for found, _ in service.env if found in CONNECTION_VARIABLES):
            yield f"{variable} in env", "this variable tells of the connection"
    elif name == "server_args" and service.handler is not None:
        yield name, "a handler has no arguments"
    elif name == "v6only" and service.family is Family.IPV4:
        yield name, "flags = IPv4 leaves no IPv6"


def _reason_lacking(of: Of, service: Service, unix: bool) -> str:
    """Why the service lacks the part that an attribute is of; "" when it has the part."""
    if of is Of.SERVICE:
        return ""
    if of is Of.INTERNET:
        return "a unix socket has a path" if unix else ""
    if of is Of.PATH:
        return "" if unix else "its socket is not a unix socket"
    if service.internal:
        return "it is built in and starts no program"
    kinds = SPAWN_OF.get(of, (service.spawn,))
    return "" if service.spawn in kinds else f"it belongs to spawn = {' or '.join(kinds)}"


def _check_sources(service: Service, unix: bool, report: Report) -> None:
    """Report `per_source` of a service whose clients' addresses are unknown."""
    if service.per_source is None:
        return
    if unix:
        reason, remedy = "clients of a unix socket have no address", "use instances"
    elif service.wait and service.socket_type == "stream":
        reason, remedy = "it accepts its clients itself", "let the server count them, or write `wait = no`"
    else:
        return
    report.add("per-source-unused", service.place_of("per_source"), service=service.id, reason=reason, remedy=remedy)


def _check_access(service: Service, report: Report) -> None:
    """Report access lists of a service on a unix socket, whose clients have no address.

    Raises Unplannable unless they are from `defaults`: the service would be open to clients it means to refuse.
    """
    refused = False
    for name, entries in (("only_from", service.only_from), ("no_access", service.no_access)):
        if entries is None or (name == "no_access" and not entries):
            continue
        if name in service.inherited:
            report.add("unix-access-inherited", service.place_of(name), service=service.id, name=name)
        else:
            report.add("unix-access", service.place_of(name), service=service.id, name=name)
            refused = True
    if refused:
        raise Unplannable
