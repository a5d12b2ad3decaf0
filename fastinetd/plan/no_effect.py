"""What is written in a service though it can do nothing there, or does less than it says."""

from __future__ import annotations

from collections.abc import Iterator

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Family, Service
from fastinetd.config.settings import POOL_SETTINGS
from fastinetd.core.program import CONNECTION_VARIABLES
from fastinetd.plan.model import Unplannable

_OF_A_PROGRAM = (
    "server", "server_args", "groups", "umask", "nice", "env", "passenv", "rlimit_as", "rlimit_cpu", "rlimit_data",
    "rlimit_rss", "rlimit_stack", "rlimit_files", "spawn_primitive", *POOL_SETTINGS,
)  # fmt: skip
"""Nothing to a built-in service. `user` and `group` are not among them: they are usual there, and harmless."""

_FORKED, _READY, _LIVING = ("zygote", "prefork"), ("prefork", "worker"), ("worker",)
_OF_A_POOL = {
    "snapshot": _FORKED, "allow_shared_layout": _FORKED, "min_spare": _READY, "max_spare": _READY,
    "max_workers": _LIVING, "max_requests": _LIVING, "max_age": _LIVING, "max_rss": _LIVING, "max_runtime": _LIVING,
}  # fmt: skip
"""The kinds of `spawn` that an attribute is something to."""

_OF_A_PATH = ("socket_user", "socket_group", "socket_mode")


def check_effects(service: Service, report: Report) -> None:
    """Warn of what has no effect. Raises Unplannable, reported, where that would leave the service unprotected."""
    unix = service.family is Family.UNIX or service.protocol == "unix"
    for name, place, reason in _idle(service, unix):
        if place in service.places and place not in service.inherited:
            report.add("no-effect-here", service.where(place), service=service.id, name=name, reason=reason)
    _check_sources(service, unix, report)
    if unix:
        _check_access(service, report)


def _idle(service: Service, unix: bool) -> Iterator[tuple[str, str, str]]:
    """(what, the attribute at whose place it stands, why) of whatever has no effect if it is written."""
    if service.internal:
        for name in _OF_A_PROGRAM:
            if name != "server" or service.server is not None:  # inetd.conf has the word `internal` there
                yield name, name, "it is built in and starts no program"
    else:
        for name in dict.fromkeys(name for name, _ in service.env if name in CONNECTION_VARIABLES):
            yield f"{name} in env", "env", "this variable tells of the connection"
        for name, kinds in _OF_A_POOL.items():
            if service.spawn not in kinds:
                yield name, name, f"it belongs to spawn = {' or '.join(kinds)}"
        if service.handler is not None:
            yield "server_args", "server_args", "a handler has no arguments"
    if unix:
        yield "port", "port", "a unix socket has a path"
        yield "v6only", "v6only", "a unix socket has a path"
        return
    for name in _OF_A_PATH:
        yield name, name, "its socket is not a unix socket"
    if service.family is Family.IPV4:
        yield "v6only", "v6only", "flags = IPv4 leaves no IPv6"


def _check_sources(service: Service, unix: bool, report: Report) -> None:
    """per_source, where the client's address is not known."""
    if service.per_source is None:
        return
    if unix:
        reason, remedy = "clients of a unix socket have no address", "use instances"
    elif service.wait and service.socket_type == "stream":
        reason, remedy = "it accepts its clients itself", "let the server count them, or write `wait = no`"
    else:
        return
    report.add("per-source-unused", service.where("per_source"), service=service.id, reason=reason, remedy=remedy)


def _check_access(service: Service, report: Report) -> None:
    """The access lists of a service on a unix socket."""
    refused = False
    for name, entries in (("only_from", service.only_from), ("no_access", service.no_access)):
        if entries is None or (name == "no_access" and not entries):
            continue
        if name in service.inherited:
            report.add("unix-access-inherited", service.where(name), service=service.id, name=name)
        else:
            report.add("unix-access", service.where(name), service=service.id, name=name)
            refused = True
    if refused:
        raise Unplannable
