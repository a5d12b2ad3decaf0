"""only_from and no_access against a slow oracle: per address, the longest match of each list."""

from __future__ import annotations

import random
import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import combinations_with_replacement, pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.config.addresses import Reason, Rejection
from fastinetd.policy.access import (
    AccessTable,
    Address,
    AddressVerdict,
    compile_access,
    decide_named,
    overruled_entries,
    verdict_at,
)

Lists = tuple[tuple[str, ...] | None, tuple[str, ...] | None]
NOBODY_NAMED: frozenset[str] = frozenset()
MAPPED_NETWORK = IPv6Network("::ffff:0:0/96")


def no_networks(name: str) -> str | None:
    return None


def table_of(only_from: str | None, no_access: str | None = None) -> AccessTable:
    """Lists as a line of blanks and entries; None is not set."""
    split = [None if text is None else tuple(text.split()) for text in (only_from, no_access)]
    return compile_access(split[0], split[1], no_networks)


# The oracle: specificity as a fraction of bits, straight from the rules.


def matched(token: str, address: Address, names: frozenset[str]) -> float | None:
    """How specific a match of one entry is (fixed bits), or None when it does not match."""
    whole = float(address.max_prefixlen)
    if token.startswith("."):
        return 0.5 + token.count(".") / 1000 if any(n.endswith(token) for n in names) else None
    if token[0].isalpha() and ":" not in token:
        return whole if token in names else None
    if ":" not in token and "/" not in token:
        octets = token.split(".")
        zeros = 0
        while zeros < 4 and octets[3 - zeros] == "0":
            zeros += 1
        token += f"/{32 - 8 * zeros}"
    network = ip_network(token, strict=False)
    if isinstance(address, IPv6Address):
        return network.prefixlen if isinstance(network, IPv6Network) and address in network else None
    if isinstance(network, IPv4Network):
        return network.prefixlen if address in network else None
    mapped = IPv6Address(0xFFFF << 32 | int(address))
    return network.prefixlen - 96 if mapped in network else None


def oracle(lists: Lists, address: Address, names: frozenset[str]) -> bool:
    found = []
    for tokens in lists:
        ranks = [(token, matched(token, address, names)) for token in tokens or ()]
        found.append([(token, rank) for token, rank in ranks if rank is not None])
    allowing, denying = found
    if not allowing and not denying:
        return lists[0] is None
    return any(
        all(rank > other and (is_name(token) or not is_name(against)) for against, other in denying)
        for token, rank in allowing
    )


def is_name(token: str) -> bool:
    return token[0] == "." or (token[0].isalpha() and ":" not in token)


def name_sets(lists: Lists) -> list[frozenset[str]]:
    """The names that can turn a verdict: each host, a stranger in each domain, a stranger."""
    tokens = [t for tokens in lists for t in tokens or () if is_name(t)]
    return [frozenset({"other" + t if t[0] == "." else t}) for t in tokens] + [frozenset({"other.host"})]


def probes(table: AccessTable) -> list[Address]:
    """Addresses at both ends of every interval, and beside them."""
    out: list[Address] = [IPv4Address(0), IPv4Address(2**32 - 1), IPv6Address(1), IPv6Address(2**128 - 1)]
    for first, last, _ in table.v4:
        out += [IPv4Address(n) for n in {first, last, (first + last) // 2}]
    for first, last, _ in table.v6:
        out += [IPv6Address(n) for n in {first, last, (first + last) // 2}]
    return [a for a in out if not (isinstance(a, IPv6Address) and a in MAPPED_NETWORK)]


# A small corner of both spaces, so that entries nest, touch and coincide.
octet = st.sampled_from([0, 1, 2, 127, 128, 255])
v4_address = st.builds("{}.{}.{}.{}".format, octet, octet, octet, octet)
v4_entry = v4_address | st.builds("{}/{}".format, v4_address, st.integers(0, 32))
group = st.sampled_from(["0", "1", "8000", "ffff"])
v6_address = st.builds("{}:{}:0:0:0:{}:{}:{}".format, group, group, group, group, group)
v6_length = st.sampled_from([0, 1, 8, 15, 16, 32, 64, 80, 95, 96, 97, 112, 127, 128])
v6_entry = v6_address | st.builds("{}/{}".format, v6_address, v6_length)
mapped_entry = st.builds("::ffff:{}/{}".format, v4_address, st.integers(0, 128))
name_entry = st.sampled_from(["a.x.y", "b.x.y", "c", ".x.y", ".y", ".a.x.y"])
client_names = st.frozensets(st.sampled_from(["a.x.y", "z.a.x.y", "c", "q.y"]))
numbers = st.lists(v4_entry | v6_entry | mapped_entry, max_size=8).map(tuple)
anything = st.lists(v4_entry | v6_entry | mapped_entry | name_entry, max_size=6).map(tuple)


def check_shape(table: AccessTable) -> None:
    """Sorted, disjoint, without gaps, from the first to the last address, neighbours different."""
    for intervals, top in ((table.v4, 2**32 - 1), (table.v6, 2**128 - 1)):
        if table.admits_everybody:
            assert intervals == ()
            continue
        assert intervals[0][0] == 0
        assert intervals[-1][1] == top
        assert all(first <= last for first, last, _ in intervals)
        for left, right in pairwise(intervals):
            assert left[1] + 1 == right[0]
            assert left[2] is not right[2]


@given(st.none() | numbers, st.none() | numbers, st.lists(v4_address | v6_address, max_size=6))
def test_numbers_as_the_oracle(
    only_from: tuple[str, ...] | None, no_access: tuple[str, ...] | None, more: list[str]
) -> None:
    table = compile_access(only_from, no_access, no_networks)
    check_shape(table)
    assert table.rejected == ()
    assert not table.asks_names
    for address in probes(table) + [ip_address(a) for a in more]:
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        expected = oracle((only_from, no_access), address, NOBODY_NAMED)
        assert verdict_at(table, address) is (AddressVerdict.ALLOW if expected else AddressVerdict.DENY)
        assert decide_named(table, address, frozenset({"a.x.y"})) is expected


@given(st.none() | anything, st.none() | anything, client_names)
def test_names_as_the_oracle(
    only_from: tuple[str, ...] | None, no_access: tuple[str, ...] | None, names: frozenset[str]
) -> None:
    lists = only_from, no_access
    table = compile_access(only_from, no_access, no_networks)
    check_shape(table)
    for address in probes(table):
        unnamed = oracle(lists, address, NOBODY_NAMED)
        assert decide_named(table, address, NOBODY_NAMED) is unnamed
        assert decide_named(table, address, names) is oracle(lists, address, names)
        turns = any(oracle(lists, address, own) is not unnamed for own in name_sets(lists))
        verdict = verdict_at(table, address)
        assert (verdict is AddressVerdict.ASK) is turns
        if not turns:
            assert (verdict is AddressVerdict.ALLOW) is unnamed
            assert oracle(lists, address, names) is unnamed


@given(v4_address, st.none() | anything, st.none() | anything)
def test_mapped_clients_are_ipv4(
    address: str, only_from: tuple[str, ...] | None, no_access: tuple[str, ...] | None
) -> None:
    table = compile_access(only_from, no_access, no_networks)
    mapped = IPv6Address(f"::ffff:{address}")
    assert verdict_at(table, mapped) is verdict_at(table, IPv4Address(address))
    for names in name_sets((only_from, no_access)):
        assert decide_named(table, mapped, names) is decide_named(table, IPv4Address(address), names)


ALLOWED, REFUSED, ASKED = AddressVerdict.ALLOW, AddressVerdict.DENY, AddressVerdict.ASK


@pytest.mark.parametrize(
    ("only_from", "no_access", "expected"),
    [
        (None, None, {"127.0.0.1": ALLOWED, "::1": ALLOWED}),
        (None, "", {"127.0.0.1": ALLOWED, "::1": ALLOWED}),
        ("", None, {"127.0.0.1": REFUSED, "::1": REFUSED}),
        ("", "127.0.0.1", {"127.0.0.1": REFUSED, "127.0.0.2": REFUSED, "::1": REFUSED}),
        ("127.0.0.", None, {"127.0.0.1": REFUSED, "::1": REFUSED}),
        (None, "127.0.0.", {"127.0.0.1": ALLOWED, "::1": ALLOWED}),
        ("127.0.0.0", None, {"127.0.0.1": ALLOWED, "126.255.255.255": REFUSED, "128.0.0.0": REFUSED}),
        ("0.0.0.0", None, {"1.2.3.4": ALLOWED, "255.255.255.255": ALLOWED, "::1": REFUSED}),
        ("::/0", None, {"1.2.3.4": ALLOWED, "::1": ALLOWED, "ffff::": ALLOWED}),
        ("::/0", "0.0.0.0", {"1.2.3.4": REFUSED, "::1": ALLOWED}),
        ("0.0.0.0", "::/0", {"1.2.3.4": ALLOWED, "::1": REFUSED}),
        ("::1", None, {"::1": ALLOWED, "::2": REFUSED, "0.0.0.1": REFUSED}),
        ("::1/128", None, {"::1": ALLOWED, "::2": REFUSED}),
        ("127.0.0.5 ::1", None, {"::ffff:127.0.0.5": ALLOWED, "::ffff:127.0.0.6": REFUSED, "::1": ALLOWED}),
        ("127.0.0.0/8", "127.0.0.9", {"127.0.0.8": ALLOWED, "127.0.0.9": REFUSED, "127.0.0.10": ALLOWED}),
        ("127.0.0.9", "127.0.0.0", {"127.0.0.9": ALLOWED, "127.0.0.10": REFUSED, "127.1.0.1": REFUSED}),
        ("127.0.0.9", "127.0.0.9", {"127.0.0.9": REFUSED}),
        (
            "127.0.0.0/8 127.0.8.9",
            "127.0.8.0/24",
            {"127.0.7.1": ALLOWED, "127.0.8.8": REFUSED, "127.0.8.9": ALLOWED, "127.0.8.10": REFUSED},
        ),
        # names: asked only where a name can turn the verdict
        ("host.example", None, {"127.0.0.1": ASKED, "::1": ASKED}),
        ("127.0.0.5 host.example", None, {"127.0.0.5": ALLOWED, "127.0.0.6": ASKED}),
        (None, "host.example", {"127.0.0.1": ASKED}),
        ("10.0.0.0", "host.example", {"10.0.0.1": ASKED, "11.0.0.1": REFUSED, "::1": REFUSED}),
        ("host.example", "10.0.0.0 10.0.0.1", {"10.0.0.1": REFUSED, "10.0.0.2": ASKED}),
        ("10.0.0.0", ".example", {"10.0.0.1": ASKED, "11.0.0.1": REFUSED}),
        ("10.0.0.1", ".example", {"10.0.0.1": ASKED, "11.0.0.1": REFUSED}),
        ("0.0.0.0", ".example", {"10.0.0.1": ASKED, "::1": REFUSED}),
        (".example", "0.0.0.0", {"10.0.0.1": ASKED, "::1": ASKED}),
        (".example", "0.0.0.0/1", {"10.0.0.1": REFUSED, "128.0.0.1": ASKED}),
        ("host.example", "host.example", {"10.0.0.1": REFUSED}),
        ("10.0.0.1 ::1", "host.example", {"10.0.0.1": ASKED, "::1": ASKED, "::2": REFUSED}),
        (".example", ".a.example", {"10.0.0.1": ASKED}),
    ],
)
def test_lists(only_from: str | None, no_access: str | None, expected: dict[str, AddressVerdict]) -> None:
    table = table_of(only_from, no_access)
    assert {address: verdict_at(table, ip_address(address)) for address in expected} == expected


@pytest.mark.parametrize(
    ("only_from", "no_access", "name", "expected"),
    [
        (".example", None, "host.example", True),
        (".example", None, "a.b.example", True),
        (".example", None, "example", False),
        (".example", None, "notexample", False),
        (".b.c", None, "a.xb.c", False),
        ("host.example", None, "host.example", True),
        ("host.example", None, "a.host.example", False),
        (".example", ".bad.example", "x.bad.example", False),
        (".example good.bad.example", ".bad.example", "good.bad.example", True),
        (".example", "x.example", "x.example", False),
        (".good.example", ".example", "x.good.example", True),
        ("x.example", "10.0.0.1", "x.example", False),
        ("10.0.0.1", "x.example", "x.example", False),
        ("x.example", "10.0.0.0", "x.example", True),
        (None, ".example", "x.example", False),
        ("10.0.0.0/24", ".example", "x.example", False),
        ("10.0.0.1", ".example", "x.example", False),
        ("10.0.0.1", ".example", "x.other", True),
        ("10.0.0.1 .x.example", ".example", "a.x.example", True),
        ("10.0.0.1 .x.example", ".example", "a.y.example", False),
        ("10.0.0.1 x.example", ".example", "x.example", True),
        (None, ".example", "x.other", True),
    ],
)
def test_decide_named(only_from: str | None, no_access: str | None, name: str, expected: bool) -> None:
    table = table_of(only_from, no_access)
    assert decide_named(table, IPv4Address("10.0.0.1"), frozenset({name})) is expected


def test_everybody_is_the_empty_table() -> None:
    for lists in ((None, None), (None, ""), ("::/0", None), ("::/0", ".")):
        table = table_of(*lists)
        assert table.admits_everybody
        assert (table.v4, table.v6) == ((), ())
    assert not table_of("0.0.0.0").admits_everybody
    assert not table_of(None, ".example").admits_everybody


def test_rejected_entries_name_their_list_and_position() -> None:
    table = table_of("10.0.0.1 a,b 127.0.0.", "::1 {")
    assert table.rejected == (
        Rejection(1, "only_from", Reason.COMMA),
        Rejection(2, "only_from", Reason.ADDRESS),
        Rejection(1, "no_access", Reason.BRACES),
    )
    assert verdict_at(table, IPv4Address("10.0.0.1")) is AddressVerdict.ALLOW


@pytest.mark.parametrize(
    ("only_from", "no_access", "expected"),
    [
        ("127.0.0.1", "0.0.0.0/0", [(0, 0)]),
        ("127.0.0.1 10.0.0.0", "0.0.0.0 10.0.0.0/7 11.0.0.1", [(0, 1), (1, 1)]),
        ("127.0.0.0/8", "127.0.0.0/8 127.0.0.1", []),
        ("0.0.0.0", "127.0.0.1", []),
        ("10.0.0.0", "::/0", [(0, 0)]),
        ("2001:db8::1", "2001:db8::/32 2001:db9::/32", [(0, 0)]),
        (".example", "0.0.0.0", [(0, 0)]),
        (".example x.other", "10.0.0.0 10.0.0.1 2001:db8::/32 ::1", [(0, 1), (2, 1)]),
        ("10.0.0.1", ".example", []),
        ("x.example .y.example", ".example .y.example", [(0, 0)]),
        ("lab", "10.0.0.0/7", [(0, 0)]),
    ],
)
def test_overruled(only_from: str, no_access: str, expected: list[tuple[int, int]]) -> None:
    found = overruled_entries(tuple(only_from.split()), tuple(no_access.split()), {"lab": "10.0.0.0"}.get)
    assert found == expected


@given(numbers, numbers)
def test_overruled_as_the_verdicts(only_from: tuple[str, ...], no_access: tuple[str, ...]) -> None:
    """Exactly where a list of nothing but the one refusal admits somebody whom it names."""
    found = {deny for deny, _ in overruled_entries(only_from, no_access, no_networks)}
    for index, token in enumerate(no_access):
        alone = compile_access(None, (token,), no_networks)
        both = compile_access(only_from, (token,), no_networks)
        refused = [address for address in probes(both) + probes(alone) if verdict_at(alone, address) is REFUSED]
        admits = any(verdict_at(both, address) is not REFUSED for address in refused)
        assert (index in found) is admits or (index in found and ":" in token)


FEW = ("0.0.0.0", "10.0.0.0/8", "10.1.1.1", "::/0", "2001:db8::/32", "2001:db8::1", "a.x.y", "c", ".x.y", ".y")


@pytest.mark.parametrize("refused", FEW)
def test_whoever_is_admitted_though_refused_is_told(refused: str) -> None:
    """The original refuses whoever is in no_access."""
    for only_from in combinations_with_replacement(FEW, 2):
        table = compile_access(only_from, (refused,), no_networks)
        told = overruled_entries(only_from, (refused,), no_networks)
        for address, name in product(probes(table), ("a.x.y", "b.x.y", "c", "d")):
            names = frozenset({name})
            verdict = verdict_at(table, address)
            if verdict is ALLOWED or (verdict is ASKED and decide_named(table, address, names)):
                assert told or matched(refused, address, names) is None, (only_from, address, name)


def test_networks_are_asked_anew() -> None:
    before = compile_access(("lab",), None, {"lab": "10.0.0.0"}.get)
    after = compile_access(("lab",), None, {"lab": "11.0.0.0"}.get)
    gone = compile_access(("lab",), None, no_networks)
    verdicts = [verdict_at(table, IPv4Address("10.0.0.1")) for table in (before, after, gone)]
    assert verdicts == [ALLOWED, REFUSED, ASKED]


def test_equal_lists_give_one_table() -> None:
    first = compile_access(("10.0.0.1", "::1"), None, no_networks)
    assert compile_access(("10.0.0.1", "::1"), None, lambda name: None) is first


def processor_time(work: object) -> float:
    assert callable(work)
    begun = time.process_time()
    work()
    return time.process_time() - begun


def test_thousand_services_compile_at_once() -> None:
    tokens = "127.0.0.1", "10.0.0.0/8", "192.168.{1,2}"

    def compile_all() -> None:
        for _ in range(1000):
            compile_access(tokens, None, no_networks)

    assert min(processor_time(compile_all) for _ in range(5)) < 0.05


def test_hundred_thousand_prefixes() -> None:
    dice = random.Random(1)
    tokens = tuple(f"{IPv4Address(dice.randrange(2**32))}/{dice.randrange(8, 33)}" for _ in range(100_000))
    tables: list[AccessTable] = []
    assert processor_time(lambda: tables.append(compile_access(tokens, None, no_networks))) < 10
    check_shape(tables[0])
    for token in dice.sample(tokens, 500):
        network = ip_network(token, strict=False)
        assert verdict_at(tables[0], network[0]) is AddressVerdict.ALLOW
        assert verdict_at(tables[0], network[-1]) is AddressVerdict.ALLOW
