"""Which service of a new Plan continues which of the old one: what keeps its row, its counts and its sessions.

Theory. A service is its name: the id that the configuration gives it. What it listens on, how it is started and what
it may do are attributes, and each of them may change. Lines of inetd.conf are given no ids; those that are made for
them are numbered, and the numbers move when a line is put in or removed further up. So a line is recognised by its
service's name and protocol and, where several have these, by what it listens on. Services of one id in xinetd.conf are
distinguished by what they listen on as well.

Rules of this file: pure; every service continues one at the most, and is continued by one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence

from fastinetd.config.model import Service
from fastinetd.plan.model import PlannedService

Keys = Callable[[PlannedService], Iterable[Hashable]]


def name_of(service: Service) -> Hashable:
    """What a service keeps from one plan to another: services of two plans are one only if this is equal."""
    return (service.name, service.protocol) if service.numbered else service.id


_WAYS: tuple[Keys, ...] = (
    lambda planned: [(planned.id, planned.service.protocol, planned.endpoints)],
    lambda planned: [(name_of(planned.service), planned.endpoints)],
    lambda planned: [(name_of(planned.service), endpoint) for endpoint in planned.endpoints],
    lambda planned: [(name_of(planned.service), planned.id, planned.service.protocol)],
    lambda planned: [name_of(planned.service)],
)
"""The keys by which a service continues another one, the surest first. Of several services that have an equal key the
first one is continued."""


def continued_services(old: Sequence[PlannedService], new: Sequence[PlannedService]) -> dict[int, int]:
    """Position in `new` -> position in `old` of the service that it continues."""
    continuing: dict[int, int] = {}
    free = dict.fromkeys(range(len(old)))
    for keys in _WAYS:
        there: defaultdict[Hashable, deque[int]] = defaultdict(deque)
        for position in free:
            for key in keys(old[position]):
                there[key].append(position)
        for number in [number for number in range(len(new)) if number not in continuing]:
            candidates = (position for key in keys(new[number]) for position in _take_freed(there.get(key), free))
            if (match := next(candidates, None)) is not None:
                continuing[number] = match
                del free[match]
    return continuing


def _take_freed(waiting: deque[int] | None, free: dict[int, None]) -> Iterable[int]:
    """The positions at the head of `waiting` that no service continues yet, one at a time; removes the others."""
    while waiting:
        if waiting[0] in free:
            yield waiting[0]
        waiting.popleft()
