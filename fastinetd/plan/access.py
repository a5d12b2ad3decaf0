"""The access lists of a service, compiled, with diagnostics about their entries."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from fastinetd.config.addresses import Reason, odd_reading, rules_of
from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import clip_value
from fastinetd.config.model import Service
from fastinetd.plan.endpoints import has_address
from fastinetd.policy.access import AccessTable, compile_access, overruled_entries

_FAULTS = {
    Reason.ADDRESS: ("is not a whole address", "write a.b.c.0 or a.b.c.0/24"),
    Reason.LENGTH: ("has no length of network after its slash", "write a.b.c.0/24"),
    Reason.MASK: ("has a mask that is not a network's", "write the length, as in a.b.c.0/24"),
    Reason.RANGE: ("is a range", "write a network such as a.b.c.0/24, or a.b.c.{1,2,3}"),
    Reason.UNKNOWN: ("is neither an address nor a name", "write an address, a network or a host name"),
}
"""Why an entry does not count -> fault and remedy, as in messages. Of other reasons the reader makes errors."""


def access_of(service: Service, report: Report) -> AccessTable:
    """The compiled access lists of a service; entries that cannot be read, or mislead, are reported."""
    lists = {"only_from": service.only_from or (), "no_access": service.no_access or ()}
    table = compile_access(service.only_from, service.no_access, _network_number)
    lost = 0
    for rejection in table.rejected:
        name, value = rejection.list, clip_value(lists[rejection.list][rejection.position])
        place = service.place_of_entry(name, rejection.position)
        reason, remedy = _FAULTS[rejection.reason]
        lost += name == "only_from"
        report.add("bad-address-entry", place, service=service.id, name=name, value=value, reason=reason, remedy=remedy)
    if lost and lost == len(lists["only_from"]):
        inherited = "only_from" in service.inherited
        whose = "each service that has it from `defaults`" if inherited else f"service {service.id}"
        place = service.place_of("only_from")
        report.add("only-from-nobody", place, service=service.id, whose=whose, remedy="mend its entries")
    for name, entries in lists.items():
        for index, entry in enumerate(entries):
            if (counts := odd_reading(entry)) is not None:
                place = service.place_of_entry(name, index)
                report.add("counts-as", place, service=service.id, name=name, value=clip_value(entry), counts=counts)
    for refusal, allowance in overruled_entries(lists["only_from"], lists["no_access"], _network_number):
        report.add("refusal-overruled", service.place_of_entry("no_access", refusal), service=service.id,
                   refused=clip_value(lists["no_access"][refusal]), value=clip_value(lists["only_from"][allowance]),
                   where=service.place_of_entry("only_from", allowance))
    return table


def check_names(services: Iterable[Service], report: Report) -> None:
    """Report the host names of access lists that have no address now. May wait for the resolver."""
    for service in services:
        for name, entries in (("only_from", service.only_from), ("no_access", service.no_access)):
            for index, rule in rules_of(entries or (), _network_number):
                if isinstance(rule, str) and not rule.startswith(".") and not has_address(rule):
                    report.add("no-client", service.place_of_entry(name, index), service=service.id, name=name,
                               value=clip_value((entries or ())[index]))


def _network_number(name: str) -> str | None:
    """The dotted number of a network's name in /etc/networks; None when it has no such name."""
    return _read_networks().get(name.lower())


@lru_cache(maxsize=1)
def _read_networks() -> dict[str, str]:
    """Names and aliases in lower case -> dotted numbers, of /etc/networks (networks(5)); the first of a name counts."""
    found: dict[str, str] = {}
    try:
        lines = Path("/etc/networks").read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.partition("#")[0].split()
        for name in [words[0], *words[2:]] if len(words) > 1 else []:
            found.setdefault(name.lower(), words[1])
    return found


def forget_networks() -> None:
    """Have /etc/networks read anew when it is needed next."""
    _read_networks.cache_clear()
