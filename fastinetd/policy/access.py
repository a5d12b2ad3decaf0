"""only_from and no_access: address lists become flat tables of intervals that the core searches by halves.

The rule. Of all entries of both lists that match a client the most specific decides, of equally specific ones
the one in no_access. None matches: refused when only_from is set (even to nothing), allowed when it is not.

How specific an entry is:
  * an address entry by its fixed bits, a single address most of all;
  * for IPv4 clients an IPv6 prefix that takes in ::ffff:0:0/96 (such as ::/0) less than 0.0.0.0;
  * a name by its labels: of two domains the one with more, a host name more than any domain.
Between a name and a network neither is the more specific, so the entry that refuses wins:
  * a host name or .domain in no_access refuses whatever addresses only_from has;
  * a .domain in only_from allows against no address entry with a fixed bit, only against `any IPv4` (0.0.0.0) and
    `any IPv6` (::/0); a host name in only_from, being one machine, allows against all but its single address.

Each interval has the verdict ALLOW, DENY or ASK. ASK stands only where some name that a client could have would turn
the verdict; `decide_named` then decides with the client's names, or without any.

Everything here is a pure function of its arguments; the look-up of network names is one of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from operator import itemgetter

from fastinetd.config.addresses import MAPPED, Prefix, Rejection, read_list, rules_of


class AddressVerdict(Enum):
    """What the two lists decide for a client's address; services/installed translates to the core's Verdict."""

    DENY = "refused"
    ALLOW = "allowed"
    ASK = "the client's names decide"


Address = IPv4Address | IPv6Address
Interval = tuple[int, int, AddressVerdict]
"""First and last address, both included, as numbers of 32 or 128 bits."""

Ranks = tuple[int, int, int]
"""An address, and from it on the ranks of the best match in only_from and in no_access (NOTHING: there is none)."""

NOTHING = -(1 << 20)
"""The rank of no match; below every match."""

_NO_NAME = NOTHING - 1  # below even that: no name entry there to match
_STEP = 256  # ranks per fixed bit; a domain's rank is its number of labels, 127 at most: below that of one bit
_ALLOWS, _DENIES = 1, 2  # bits: the lists in which a prefix stands
_ANY = ((0, 0), (MAPPED, 96))  # any IPv6, which takes IPv4 in, and any IPv4


@dataclass(frozen=True, slots=True)
class AccessTable:
    """The compiled address lists of a service."""

    v4: tuple[Interval, ...] = ()
    """The whole of IPv4 in order, without gaps; () in both families if every client is allowed."""
    v6: tuple[Interval, ...] = ()
    """The whole of IPv6 in order, without gaps; clients of ::ffff:0:0/96 are looked up in `v4`."""
    rejected: tuple[Rejection, ...] = ()
    default: AddressVerdict = AddressVerdict.ALLOW
    """The verdict for a client that no entry matches: ALLOW or DENY."""
    hosts: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    """Host names of only_from and of no_access, in lower case."""
    domains: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    """Domains of only_from and of no_access, in lower case and without their leading dot."""
    ranks4: tuple[Ranks, ...] = ()
    """The ranks of the address entries in IPv4, for `decide_named`; () when no entry is a name."""
    ranks6: tuple[Ranks, ...] = ()
    """The ranks of the address entries in IPv6, for `decide_named`; () when no entry is a name."""

    @property
    def admits_everybody(self) -> bool:
        """Whether every client is allowed, by address and by name."""
        return not self.v4

    @property
    def asks_names(self) -> bool:
        """Whether the names of some clients must be looked up."""
        return any(verdict is AddressVerdict.ASK for _, _, verdict in self.v4 + self.v6)


def compile_access(
    only_from: tuple[str, ...] | None,
    no_access: tuple[str, ...] | None,
    networks: Callable[[str], str | None],
) -> AccessTable:
    """Compile the two lists of a service; None is `not set`, () is `set to nothing`.

    `networks` returns the dotted number of a name of /etc/networks, or None. Entries that cannot be read go to
    `rejected` and do not count; an only_from of which nothing is left refuses every client. Raises nothing. Equal
    lists return the same object as long as it is in the cache.
    """
    rejected: list[Rejection] = []
    allow = read_list("only_from", only_from or (), networks, rejected)
    deny = read_list("no_access", no_access or (), networks, rejected)
    default = AddressVerdict.ALLOW if only_from is None else AddressVerdict.DENY
    return _build_table(allow, deny, default, tuple(rejected))


def overruled_entries(
    only_from: tuple[str, ...], no_access: tuple[str, ...], networks: Callable[[str], str | None]
) -> list[tuple[int, int]]:
    """Entries of no_access that a more specific entry of only_from overrules, by their positions from 0.

    (position in no_access, position in only_from), of several of the latter the first. A host name may be an address in
    any network, and overrules it then.
    """
    allow = [(rule, index) for index, rule in rules_of(only_from, networks)]
    inside = sorted(((rule, index) for rule, index in allow if not isinstance(rule, str)), key=itemgetter(0))
    named = [(rule, index) for rule, index in allow if isinstance(rule, str)]
    found: dict[int, int] = {}
    for position, rule in rules_of(no_access, networks):
        if isinstance(rule, str):
            against = [index for name, index in named if rule.startswith(".") and name != rule and name.endswith(rule)]
        else:
            first, bits = rule
            against = []
            at = bisect_right(inside, (first, bits), key=itemgetter(0))  # prefixes within it follow it in this order
            if at < len(inside) and inside[at][0][0] <= first | (1 << 128 - bits) - 1:
                against.append(inside[at][1])
            if bits < 128:
                against += [index for name, index in named if rule in _ANY or not name.startswith(".")]
        if against:
            found.setdefault(position, min(against))
    return sorted(found.items())


def verdict_at(table: AccessTable, address: Address) -> AddressVerdict:
    """The verdict of the interval that holds `address`, as the core looks it up."""
    bits, key = _key_of(address)
    intervals = table.v4 if bits == 32 else table.v6
    if not intervals:
        return AddressVerdict.ALLOW
    return intervals[bisect_right(intervals, key, key=itemgetter(0)) - 1][2]


def decide_named(table: AccessTable, address: Address, names: frozenset[str]) -> bool:
    """Whether a client is allowed that has these confirmed names, in lower case and without a dot at the end."""
    bits, key = _key_of(address)
    ranks = table.ranks4 if bits == 32 else table.ranks6
    if not ranks:
        return verdict_at(table, address) is AddressVerdict.ALLOW
    _, allow, deny = ranks[bisect_right(ranks, key, key=itemgetter(0)) - 1]
    named_allow, named_deny = (max(_name_ranks(names, *both, bits)) for both in zip(table.hosts, table.domains))
    if named_allow > max(deny, named_deny):
        return True
    return named_deny == NOTHING and _is_allowed(allow, deny, table.default)


# Building tables


@lru_cache(maxsize=64)
def _build_table(
    allow: tuple[Prefix | str, ...],
    deny: tuple[Prefix | str, ...],
    default: AddressVerdict,
    rejected: tuple[Rejection, ...],
) -> AccessTable:
    """The table of two lists of prefixes and names; lists that allow every client have an empty one."""
    marks: dict[Prefix, int] = {}
    names: tuple[set[str], set[str]] = (set(), set())
    for rules, mark, texts in ((allow, _ALLOWS, names[0]), (deny, _DENIES, names[1])):
        for rule in rules:
            if isinstance(rule, str):
                texts.add(rule)
            else:
                marks[rule] = marks.get(rule, 0) | mark
    ranks4, ranks6 = _ranks_of_ipv4(marks), _ranks_of_ipv6(marks)
    v4, v6 = (_make_intervals(ranks, names, bits, default) for ranks, bits in ((ranks4, 32), (ranks6, 128)))
    if len(v4) == len(v6) == 1 and v4[0][2] is v6[0][2] is AddressVerdict.ALLOW:
        return AccessTable(rejected=rejected, default=default)
    hosts, domains = zip(*(_split_names(texts) for texts in names))
    if not any(names):
        return AccessTable(v4, v6, rejected, default)
    return AccessTable(v4, v6, rejected, default, hosts, domains, tuple(ranks4), tuple(ranks6))


def _split_names(texts: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The host names among `texts`, and the domains without their leading dot."""
    domains = frozenset(text[1:] for text in texts if text.startswith("."))
    return frozenset(text for text in texts if not text.startswith(".")), domains


def _ranks_of_ipv4(marks: dict[Prefix, int]) -> list[Ranks]:
    """The ranks of prefixes within ::ffff:0:0/96; a wider prefix around it ranks below 0.0.0.0."""
    inside: dict[Prefix, int] = {}
    allow = deny = NOTHING
    for (first, bits), mark in marks.items():
        if bits > 96 and first >> 32 == 0xFFFF:
            inside[first & 0xFFFFFFFF, bits - 96] = mark
        elif bits <= 96 and MAPPED >> (128 - bits) == first >> (128 - bits):
            allow = max(allow, (bits - 96) * _STEP) if mark & _ALLOWS else allow
            deny = max(deny, (bits - 96) * _STEP) if mark & _DENIES else deny
    return _flatten_prefixes(inside, 32, allow, deny)


def _ranks_of_ipv6(marks: dict[Prefix, int]) -> list[Ranks]:
    """The ranks of prefixes that do not lie within ::ffff:0:0/96."""
    outside = {rule: mark for rule, mark in marks.items() if rule[1] < 96 or rule[0] >> 32 != 0xFFFF}
    return _flatten_prefixes(outside, 128, NOTHING, NOTHING)


def _flatten_prefixes(marks: dict[Prefix, int], width: int, allow: int, deny: int) -> list[Ranks]:
    """The ranks from each border on, of prefixes of which any two are nested or apart.

    `marks`: prefix -> the lists in which it stands; `width`: bits of an address; `allow`, `deny`: the ranks where no
    prefix matches. A stack holds the open prefixes from the outermost to the innermost, each with its last address.
    """
    top = (1 << width) - 1
    out: list[Ranks] = [(0, allow, deny)]
    stack = [(top, allow, deny)]

    def border(first: int, allow: int, deny: int) -> None:
        if out[-1][0] == first:
            out.pop()
        out.append((first, allow, deny))

    for (first, bits), mark in sorted(marks.items()):
        while stack[-1][0] < first:
            last, _, _ = stack.pop()
            border(last + 1, stack[-1][1], stack[-1][2])
        _, allow, deny = stack[-1]
        allow = bits * _STEP if mark & _ALLOWS else allow
        deny = bits * _STEP if mark & _DENIES else deny
        border(first, allow, deny)
        stack.append((first | top >> bits, allow, deny))
    while len(stack) > 1:
        last, _, _ = stack.pop()
        if last < top:
            border(last + 1, stack[-1][1], stack[-1][2])
    return out


def _make_intervals(
    ranks: list[Ranks], names: tuple[set[str], set[str]], width: int, default: AddressVerdict
) -> tuple[Interval, ...]:
    """The intervals of a family of `width` bits, neighbours with the same verdict joined."""
    # The same name in both lists refuses, so the entry in only_from can turn nothing.
    may_allow = max((_name_rank(name, width) for name in names[0] - names[1]), default=_NO_NAME)
    starts: list[tuple[int, AddressVerdict]] = []
    for first, allow, deny in ranks:
        if _is_allowed(allow, deny, default):
            verdict = AddressVerdict.ASK if names[1] else AddressVerdict.ALLOW
        else:
            verdict = AddressVerdict.ASK if may_allow > deny else AddressVerdict.DENY
        if not starts or starts[-1][1] is not verdict:
            starts.append((first, verdict))
    ends = [first - 1 for first, _ in starts[1:]] + [(1 << width) - 1]
    return tuple((first, last, verdict) for (first, verdict), last in zip(starts, ends))


def _is_allowed(allow: int, deny: int, default: AddressVerdict) -> bool:
    """Whether the entries with these ranks allow a client; equal ranks refuse, `default` decides if none matches."""
    return default is AddressVerdict.ALLOW if allow == deny == NOTHING else allow > deny


# Names and keys


def _name_rank(name: str, width: int) -> int:
    """The rank of an entry that is a name: of a host that of a single address, of a domain its number of labels."""
    return name.count(".") if name.startswith(".") else width * _STEP


def _name_ranks(names: frozenset[str], hosts: frozenset[str], domains: frozenset[str], width: int) -> list[int]:
    """The ranks of the entries that match a client's names, with NOTHING as the first: never empty."""
    found = [NOTHING]
    for name in names:
        if name in hosts:
            found.append(width * _STEP)
        _, dot, rest = name.partition(".")
        while dot:
            if rest in domains:
                found.append(rest.count(".") + 1)
            _, dot, rest = rest.partition(".")
    return found


def _key_of(address: Address) -> tuple[int, int]:
    """The bits of an address's family, 32 or 128, and the address as a number; an IPv4-mapped address is IPv4."""
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        if mapped is None:
            return 128, int(address)
        address = mapped
    return 32, int(address)
