"""The access lists of a service: compiled, and what is to be said of their entries."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import clip_value
from fastinetd.config.model import Service
from fastinetd.policy.access import AccessTable, compile_access, overruled_entries
from fastinetd.policy.addresses import Reason, odd_reading

_WHY = {
    Reason.COMMA: ("has a comma outside braces", "separate addresses by blanks"),
    Reason.BRACES: ("has braces that cannot be read", "write a.b.c.{1,2,3} with numbers up to 255 as its last part"),
    Reason.ADDRESS: ("is not a whole address", "write a.b.c.0 or a.b.c.0/24"),
    Reason.LENGTH: ("has no length of network after its slash", "write a.b.c.0/24"),
    Reason.MASK: ("has a mask that is not a network's", "write the length, as in a.b.c.0/24"),
    Reason.RANGE: ("is a range", "write a network such as a.b.c.0/24, or a.b.c.{1,2,3}"),
    Reason.SCOPE: ("names an interface", "write the address alone"),
    Reason.UNKNOWN: ("is neither an address nor a name", "write an address, a network or a host name"),
}


def access_of(service: Service, report: Report) -> AccessTable:
    """The table of a service; entries that do not say what they seem to are reported, each at its place."""
    lists = {"only_from": service.only_from or (), "no_access": service.no_access or ()}
    table = compile_access(service.only_from, service.no_access, _network)
    lost = 0
    for rejection in table.rejected:
        name, value = rejection.list, clip_value(lists[rejection.list][rejection.position])
        place = service.place_of_entry(name, rejection.position)
        reason, remedy = _WHY[rejection.reason]
        lost += name == "only_from"
        report.add("bad-address-entry", place, service=service.id, name=name, value=value, reason=reason, remedy=remedy)
    if lost and lost == len(lists["only_from"]):
        report.add("only-from-nobody", service.place_of("only_from"), service=service.id, remedy="mend its entries")
    for name, entries in lists.items():
        for index, entry in enumerate(entries):
            if (counts := odd_reading(entry)) is not None:
                place = service.place_of_entry(name, index)
                report.add("counts-as", place, service=service.id, name=name, value=clip_value(entry), counts=counts)
    for refusal, allowance in overruled_entries(lists["only_from"], lists["no_access"], _network):
        report.add("refusal-overruled", service.place_of_entry("no_access", refusal), service=service.id,
                   refused=clip_value(lists["no_access"][refusal]), value=clip_value(lists["only_from"][allowance]),
                   where=service.place_of_entry("only_from", allowance))
    return table


def _network(name: str) -> str | None:
    """The dotted number of a name in /etc/networks (networks(5))."""
    return _networks().get(name.lower())


@lru_cache(maxsize=1)
def _networks() -> dict[str, str]:
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
    """Read /etc/networks anew when it is needed next."""
    _networks.cache_clear()
