"""Which services get a pool of processes, of what kind and size, and which ask for one but are served by exec.

A service that cannot have the pool it asks for is reported, and served by exec.
"""

from __future__ import annotations

import os
import socket
import stat
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Service
from fastinetd.core.exec_context import ExecContext
from fastinetd.plan.handler import module_file
from fastinetd.plan.holdable import CAUSES, Unholdable, interpreted_files, program_files
from fastinetd.plan.model import Endpoint, PoolPlan
from fastinetd.plan.surroundings import Surroundings
from fastinetd.policy.access import AccessTable, AddressVerdict, Interval
from fastinetd.stage.library import library_descriptor

LOOPBACK4 = (int(IPv4Address("127.0.0.0")), int(IPv4Address("127.255.255.255")))
"""First and last IPv4 address of this machine itself, as numbers."""
LOOPBACK6 = (1, 1)
"""First and last IPv6 address of this machine itself, as numbers: ::1."""

POOL_REFUSALS = ("datagrams", "wait", "primitive", "library", "shared_layout", *CAUSES)
"""The reasons for which a service that asks for a pool gets none, a word for each."""


class PoolTimes(NamedTuple):
    """How long pools wait, in seconds."""

    ready_within: float  # a process that is not ready by then is ended
    spare_after: float  # an idle worker is let go when others have served alone for so long
    count_every: float  # how often the parked children that are wanted are counted again


POOL_TIMES = PoolTimes(ready_within=60, spare_after=60, count_every=1)
"""The times of every service's pool."""


class _Refusal(NamedTuple):
    """Why a service gets no pool, and what to do about it."""

    word: str  # of POOL_REFUSALS
    reason: str
    remedy: str


def pool_of(
    service: Service,
    context: ExecContext,
    endpoints: tuple[Endpoint, ...],
    access: AccessTable,
    surroundings: Surroundings,
    report: Report,
) -> tuple[PoolPlan | None, str | None]:
    """The pool of a service and None; or None and a word of POOL_REFUSALS, which is reported; or twice None without
    `spawn`.

    Without a pool every connection is served by exec.
    """
    if service.spawn == "exec" or service.internal:
        return None, None
    if "spawn" in service.inherited and service.wait:
        return None, None  # `defaults` are for all services, and this one could have no pool
    refusal = _refuse_unsuited(service, context, surroundings)
    if refusal is None:
        refusal = _refuse_exposed(service, context, endpoints, access, surroundings)
    files: tuple[bytes, ...] = ()
    if refusal is None:
        try:
            files = _files_of(service, context, surroundings, report)
        except Unholdable as fault:
            refusal = _Refusal(fault.word, fault.reason, fault.remedy)
    if refusal is not None:
        report.add("pool-refused", service.place_of("spawn"), service=service.id, kind=service.spawn,
                   reason=refusal.reason, remedy=refusal.remedy)
        return None, refusal.word
    low, high, most = _sizes_of(service, report)
    plan = PoolPlan(
        service.spawn, service.snapshot, low, high, most, service.max_requests, service.max_age, service.max_rss,
        service.max_runtime, service.handler, files, _guard_of(service, context, surroundings, report),
    )
    return plan, None


def _refuse_unsuited(service: Service, context: ExecContext, surroundings: Surroundings) -> _Refusal | None:
    """The refusal of a pool to a service whose socket, start or machine does not allow one; None for any other."""
    if service.socket_type != "stream":
        remedy = "write `wait = yes` and `instances = 2` or more for servers that share its socket"
        return _Refusal("datagrams", "it reads datagrams", remedy)
    if service.wait:
        return _Refusal("wait", "it accepts its clients itself", "write `wait = no`")
    if service.spawn_primitive == "posix_spawn":
        return _Refusal("primitive", "posix_spawn starts no pools", "write `spawn_primitive = auto`")
    if context.posix_spawn or not surroundings.clone:
        reason = "this system does not allow the start it needs"
        return _Refusal("primitive", reason, "allow clone with CLONE_VFORK here")
    if service.spawn == "worker":
        return None
    if library_descriptor() < 0:
        return _Refusal("library", "this machine has no library that holds programs", "write `spawn = exec` here")
    if not os.fstat(library_descriptor()).st_mode & stat.S_IROTH:
        reason = "the library that holds programs may not be read by all"
        return _Refusal("library", reason, "chmod a+r fastinetd's _stage*.so")
    return None


# ---- clients that could learn a shared layout ----


def _refuse_exposed(
    service: Service, context: ExecContext, endpoints: tuple[Endpoint, ...], access: AccessTable,
    surroundings: Surroundings,
) -> _Refusal | None:
    """The refusal of a pool to root's servers with clients from outside; None for any other.

    Forks of one zygote share their address layout and stack protector: a client that learns them from one connection
    could use them on the next.
    """
    uid = surroundings.uid if context.ids is None else context.ids[0]
    if uid != 0 or service.spawn == "worker" or service.allow_shared_layout:
        return None
    if not any(_takes_outsiders(endpoint, access) for endpoint in endpoints):
        return None
    return _Refusal(
        "shared_layout", "its processes run as root, are reached from outside and would share their address layout",
        "name another user, write `only_from = 127.0.0.0/8 ::1` or `allow_shared_layout = yes`",
    )


def _takes_outsiders(endpoint: Endpoint, access: AccessTable) -> bool:
    """Whether clients of other machines can be served at an endpoint."""
    host = endpoint.host.partition("%")[0].lower()
    if endpoint.family == socket.AF_UNIX or host in ("localhost", "lo"):
        return False
    try:
        address: IPv4Address | IPv6Address | None = ip_address(host)
    except ValueError:
        address = None  # all addresses, a name or another interface
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address is not None and address.is_loopback:
        return False
    if access.admits_everybody:
        return True
    four = endpoint.family == socket.AF_INET or isinstance(address, IPv4Address)
    six = endpoint.v6only
    return (not six and _admits_others(access.v4, LOOPBACK4)) or (not four and _admits_others(access.v6, LOOPBACK6))


def _admits_others(intervals: tuple[Interval, ...], loopback: tuple[int, int]) -> bool:
    """Whether access lists admit, or may admit by name, a client whose address is outside of `loopback`."""
    low, high = loopback
    return any(
        verdict is not AddressVerdict.DENY and not low <= first <= last <= high for first, last, verdict in intervals
    )


# ---- processes that could change what a zygote holds ----


def _guard_of(service: Service, context: ExecContext, surroundings: Surroundings, report: Report) -> int | None:
    """The capability that bars other processes of the service's user from its zygotes while they start; None for none.

    Root cannot be barred, nor a daemon's own user. That a service should have one and cannot is reported.
    """
    if service.spawn == "worker" or context.ids is None or context.ids[0] == 0:
        return None
    if surroundings.guard is None:
        report.add("pool-unguarded", service.place_of("spawn"), service=service.id, user=service.user)
    return surroundings.guard


# ---- files of which a pool is made ----


def _files_of(service: Service, context: ExecContext, surroundings: Surroundings, report: Report) -> tuple[bytes, ...]:
    """The files whose change replaces the pool: the program, its interpreters, and its first argument if it is a file.

    The first argument is the script of an interpreter or a configuration; later ones may be files that the server
    writes. Of a handler, its Python and its module. Raises Unholdable.
    """
    program = os.fsdecode(context.path)
    if service.handler is not None:
        module = module_file(service.handler, context.environ)
        if module is None:
            report.add("no-handler", service.place_of("handler"), service=service.id,
                       value=service.handler.partition(":")[0], python=program)
        return tuple(os.fsencode(path) for path in (program, module) if path)
    if service.spawn == "worker":
        files = interpreted_files(program)
    else:
        paths = (each.removeprefix(b"PATH=") for each in context.environ if each.startswith(b"PATH="))
        search = os.fsdecode(next(paths, os.defpath.encode()))
        ids = context.ids or (surroundings.uid, surroundings.gid)
        files = program_files(program, search, ids, context.groups or ())
    words = [word for word in context.argv[1:] if not word.startswith(b"-")]
    first = [word for word in words[:1] if word.startswith(b"/") and Path(os.fsdecode(word)).is_file()]
    return tuple(dict.fromkeys((*map(os.fsencode, files), *first)))


def _sizes_of(service: Service, report: Report) -> tuple[int, int, int]:
    """min_spare, max_spare and max_workers; of two that contradict each other, the one that is a default gives way."""
    low, high, most = service.min_spare, service.max_spare, service.max_workers
    bounds = {"max_spare": high, "max_workers": most} if service.spawn == "worker" else {"max_spare": high}
    ready = service.spawn in ("prefork", "worker")
    name, bound = min(((name, bound) for name, bound in bounds.items() if name in service.places), default=("", low),
                      key=lambda each: each[1])
    if ready and low > bound:
        if "min_spare" in service.places:
            place = "min_spare" if "min_spare" not in service.inherited else name
            report.add("spare-order", service.place_of(place), service=service.id, low=low, name=name, most=bound)
        low = bound
    high = max(high, low)
    most = max(most, low)
    return low, min(high, most) if service.spawn == "worker" else high, most
