"""The core's search in address ranges against the policy's own, over random lists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinetd.core.board import Board
from fastinetd.core.layout import Verdict
from fastinetd.core.program import Program, Ranges
from fastinetd.policy.access import AccessTable, AddressVerdict, compile_access, verdict_at
from support.accounts import Accounts
from support.core import open_row, program

SAME = {AddressVerdict.ALLOW: Verdict.ADMIT, AddressVerdict.DENY: Verdict.ADDRESS, AddressVerdict.ASK: Verdict.ASK}

fours = st.integers(0, 2**32 - 1).map(IPv4Address)
sixes = st.integers(0, 2**128 - 1).map(IPv6Address).filter(lambda address: address.ipv4_mapped is None)
near = st.integers(0x0A000000, 0x0A0000FF).map(IPv4Address) | st.integers(2**125, 2**125 + 300).map(IPv6Address)


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    """A process that lets clients in, to row 0."""
    board = Board.create(1, 4, 1)
    assert open_row(board) == 0
    yield Accounts(board, 0)
    os.close(board.fd)


def verdict_on(accounts: Accounts, served: Program, address: bytes) -> Verdict:
    """What a client from an address is told; one who is let in leaves at once."""
    verdict, slot = accounts.admit(served, address)
    if slot >= 0:
        accounts.drop(slot)
    return verdict


def prefix(pair: tuple[IPv4Address | IPv6Address, int]) -> str:
    address, bits = pair
    return f"{address}/{min(bits, address.max_prefixlen)}"


entries = st.one_of(
    st.tuples(fours | sixes | near, st.integers(0, 128)).map(prefix),
    st.tuples(near, st.integers(20, 32) | st.integers(115, 128)).map(prefix),
    near.map(str),
    st.sampled_from(["0.0.0.0", "::/0", "10.0.0.0", ".example.net", "host.example.net", "10.0.0.{1,7,200}"]),
)
lists = st.none() | st.lists(entries, max_size=12).map(tuple)


def compiled(table: AccessTable) -> Program:
    four, six = ([(first, last, SAME[verdict]) for first, last, verdict in part] for part in (table.v4, table.v6))
    return program(0, ranges=Ranges(four, six))


def borders(table: AccessTable) -> list[IPv4Address | IPv6Address]:
    """Both ends of every interval, where a search goes wrong first."""
    found: list[IPv4Address | IPv6Address] = []
    found += [IPv4Address(end) for first, last, _ in table.v4 for end in (first, last)]
    found += [IPv6Address(end) for first, last, _ in table.v6 for end in (first, last)]
    return [address for address in found if not (isinstance(address, IPv6Address) and address.ipv4_mapped)]


@settings(max_examples=400, deadline=None)
@given(lists, lists, st.lists(fours | sixes | near, max_size=20))
def test_as_the_policy_says(
    accounts: Accounts, only_from: tuple[str, ...] | None, no_access: tuple[str, ...] | None,
    peers: list[IPv4Address | IPv6Address],
) -> None:
    table = compile_access(only_from, no_access, lambda name: None)
    core = compiled(table)
    for peer in [*peers, *borders(table)]:
        assert verdict_on(accounts, core, peer.packed) == SAME[verdict_at(table, peer)], peer


@pytest.mark.parametrize("peer", [bytes(4), b"\xff" * 4, bytes(16), b"\xff" * 16, b""])
def test_without_ranges_everybody_passes(accounts: Accounts, peer: bytes) -> None:
    assert verdict_on(accounts, program(0), peer) == Verdict.ADMIT
    assert verdict_on(accounts, program(0, ranges=Ranges([], [])), peer) == Verdict.ADMIT


def test_outside_of_all_ranges_nobody_passes(accounts: Accounts) -> None:
    core = program(0, ranges=Ranges([(10, 20, Verdict.ADMIT)], [(10, 20, Verdict.ADMIT)]))
    for width in (4, 16):
        verdicts = [verdict_on(accounts, core, n.to_bytes(width, "big")) for n in (0, 9, 10, 15, 20, 21, 2**31)]
        assert [v == Verdict.ADMIT for v in verdicts] == [False, False, True, True, True, False, False]


def test_unix_peers_have_no_address_to_judge(accounts: Accounts) -> None:
    core = program(0, ranges=Ranges([(0, 2**32 - 1, Verdict.ADDRESS)], [(0, 2**128 - 1, Verdict.ADDRESS)]))
    assert verdict_on(accounts, core, b"") == Verdict.ADMIT


def test_a_verdict_of_ask_takes_no_slot() -> None:
    board = Board.create(1, 4, 1)
    core = program(open_row(board), ranges=Ranges([(0, 2**32 - 1, Verdict.ASK)], []))
    assert Accounts(board, 0).admit(core, bytes(4)) == (Verdict.ASK, -1)
    assert board.live == 0
    os.close(board.fd)


def test_many_ranges(accounts: Accounts) -> None:
    """As many as a long block list has; every other address is refused."""
    count = 20_000
    ranges = [(2 * n, 2 * n, Verdict.ADDRESS if n % 3 else Verdict.ASK) for n in range(count)]
    core = program(0, ranges=Ranges(ranges, []))
    for n in (*range(0, count, 997), count - 1):
        wanted = Verdict.ADDRESS if n % 3 else Verdict.ASK
        assert verdict_on(accounts, core, (2 * n).to_bytes(4, "big")) == wanted
        assert verdict_on(accounts, core, (2 * n + 1).to_bytes(4, "big")) == Verdict.ADDRESS
