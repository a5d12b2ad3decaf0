"""From a Config to a Plan: all that services need of this machine is looked up once, before one is started.

A Plan is immutable: users are numbers, argument vectors and environments are bytes, address lists are intervals. A
name that cannot be found is reported at the place where it is written, and costs that service only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from fastinetd.config.diagnostics import Report, Severity
from fastinetd.config.model import Config, Place, Service
from fastinetd.core.layout import MOST_STARTS, Field
from fastinetd.plan.access import access_of, forget_networks
from fastinetd.plan.endpoints import Places, endpoints_of, listed_port
from fastinetd.plan.exec_context import exec_context_of, program_of
from fastinetd.plan.model import Mode, Plan, PlannedService, SocketOptions, Unplannable
from fastinetd.plan.no_effect import check_effects
from fastinetd.plan.pool_plan import pool_of
from fastinetd.plan.surroundings import Surroundings
from fastinetd.plan.users import forget_users, gid_of, ids_of, uid_of
from fastinetd.policy.limits import rate_numbers
from fastinetd.system.privileges import bar_to_kill, choose_nobody

MOST_SERVICES = 8192
"""Services that a daemon serves at most: the rows of the Board."""

WRAPPER_FILES = ("/etc/hosts.allow", "/etc/hosts.deny")
"""The files of tcp wrappers (hosts_access(5))."""


def make_plan(config: Config, surroundings: Surroundings, report: Report) -> Plan:
    """The Plan of a Config here; a service that cannot be started is reported and goes to `Plan.left_out`."""
    planned: list[PlannedService] = []
    left_out: list[Service] = []
    places = Places()
    for number, service in enumerate(config.services):
        if len(planned) == MOST_SERVICES:
            more = len(config.services) - number - 1
            report.add("too-many-services", service.place, service=service.id, more=more, most=MOST_SERVICES)
            left_out += config.services[number:]
            break
        try:
            made = _plan_service(service, surroundings, report)
            for endpoint in made.endpoints:
                if (owner := places.owner_of(endpoint)) is not None:
                    theirs, other = owner
                    within = "" if theirs.place == endpoint.place else f" with {theirs}"
                    report.add("same-socket", service.place_of("port"), service=service.id, socket=endpoint,
                               other=other.id, place=other.place, within=within)
                    raise Unplannable
        except Unplannable:
            left_out.append(service)
            continue
        for endpoint in made.endpoints:
            places.take(endpoint, service)
        planned.append(made)
    if planned:
        _warn_of_wrappers(config, report)
        _warn_of_privileges(config, planned, surroundings, report)
    for service in config.broken:  # never started; looked up so that one --check reports all their errors
        access_of(service, report)
        try:
            ids_of(service, surroundings, report)
            program_of(service, report)
        except Unplannable:
            continue
    lost = (*left_out, *config.broken)
    return Plan(tuple(planned), lost, tuple(_find_reasons(lost, report)))


def _find_reasons(services: Iterable[Service], report: Report) -> Iterator[tuple[str, str]]:
    """(id, text of the first error in `report`) of each service that cannot be started."""
    errors: dict[object, str] = {}
    for found in report:
        if found.severity is Severity.ERROR:
            errors.setdefault(found.place, found.text)
            errors.setdefault(found.service, found.text)
    for service in services:
        keys = (service.id, *service.places.values(), service.place, service.name)
        yield service.id, next((errors[key] for key in keys if key in errors), "it is left out, see the log")


def _plan_service(service: Service, surroundings: Surroundings, report: Report) -> PlannedService:
    """A service with all that it needs of this machine. Raises Unplannable, reported."""
    mode = Mode.BUILTIN if service.internal else Mode.WAIT if service.wait else Mode.NOWAIT
    endpoints = endpoints_of(service, report)
    check_effects(service, report)
    context = exec_context_of(service, surroundings, report)
    accepts_itself = mode is Mode.WAIT and service.socket_type == "stream" and service.protocol != "unix"
    if accepts_itself and (service.only_from or service.no_access):
        place = service.place_of("only_from" if service.only_from else "no_access")
        report.add("wait-access", place, service=service.id)
    options = SocketOptions(
        nodelay="NODELAY" in service.flags,
        keepalive="KEEPALIVE" in service.flags,
        receive_buffer=service.receive_buffer,
        send_buffer=service.send_buffer,
        owner=uid_of(service.socket_user, service.place_of("socket_user"), report)[0] if service.socket_user else None,
        group=gid_of(service.socket_group, service.place_of("socket_group"), report) if service.socket_group else None,
        mode=service.socket_mode,
    )
    groups = {*surroundings.groups, surroundings.gid}
    if bar := surroundings.may.bar_to_owner(options.owner, options.group, surroundings.uid, groups):
        place = service.place_of("socket_user" if service.socket_user else "socket_group")
        report.add("socket-owner", place, service=service.id, reason=bar.reason, remedy=bar.remedy)
        raise Unplannable
    lowest = surroundings.may.lowest_port
    for port in sorted({endpoint.port for endpoint in endpoints if 0 < endpoint.port < lowest}):
        report.add("low-port", service.place_of("port"), service=service.id, port=port, lowest=lowest)
    access = access_of(service, report)
    return PlannedService(
        service, mode, endpoints, options, context, access, rate_numbers(service.rate, MOST_STARTS),
        _field_bits(service.log_on_success), _field_bits(service.log_on_failure),
        *pool_of(service, context, endpoints, access, surroundings, report),
    )


def _warn_of_privileges(
    config: Config, planned: list[PlannedService], surroundings: Surroundings, report: Report
) -> None:
    """Report what the daemon, though root, may not do here for any service."""
    if not surroundings.root:
        return
    place = Place(config.source, 1)
    bar = bar_to_kill(surroundings.may)
    users = {each.exec_context.ids[0] for each in planned if each.exec_context.ids is not None}
    if bar and users - {surroundings.uid}:
        report.add("cannot-kill", place, reason=bar.reason, remedy=bar.remedy)
    who = choose_nobody(surroundings.may)
    if who.bar is not None:
        what = "root" if who.uid is None else "root's groups"
        report.add("roles-as-root", place, what=what, reason=who.bar.reason, remedy=who.bar.remedy)


def _warn_of_wrappers(config: Config, report: Report) -> None:
    """Report rules in hosts.allow and hosts.deny: xinetd as distributions build it obeys them, this daemon does not."""
    for path in WRAPPER_FILES:
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            continue
        rules = [number for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
        if rules:
            report.add("tcp-wrappers", Place(path, rules[0]), file=path)


def forget_lookups() -> None:
    """Have the user database, /etc/services and /etc/networks read anew; to be called before each reload."""
    forget_users()
    listed_port.cache_clear()
    forget_networks()


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
"""Words of log_on_success and log_on_failure -> bits."""


def _field_bits(words: frozenset[str]) -> int:
    """The bits of words of log_on_success or log_on_failure."""
    return sum(int(_FIELDS[word]) for word in words)
