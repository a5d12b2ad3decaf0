"""Admission by one process: limits, sources and rates, each against an account of its own kept in Python."""

from __future__ import annotations

import mmap
import os
from array import array
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinetd.core.board import Board
from fastinetd.core.layout import Verdict
from support.accounts import Accounts
from support.core import HOUR, open_row, program, set_limits

HERE = bytes([192, 0, 2, 1])
PAGE = mmap.PAGESIZE


def address(number: int) -> bytes:
    return b"\x0a" + number.to_bytes(3, "big")


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(4, 100, 2)  # so few slots make a table of 64 buckets, one page
    yield made
    os.close(made.fd)


# ---- limits ----


def test_instances(board: Board) -> None:
    row, accounts = open_row(board, instances=3), Accounts(board, 0)
    slots = [accounts.admit(program(row), address(n))[1] for n in range(3)]
    assert accounts.admit(program(row), address(9)) == (Verdict.INSTANCES, -1)
    accounts.drop(slots[0])
    assert accounts.admit(program(row), address(9))[0] == Verdict.ADMIT


def test_instances_below_what_runs(board: Board) -> None:
    """A lower limit ends nobody, and admits nobody until enough have left."""
    row, accounts = open_row(board, instances=3), Accounts(board, 0)
    slots = [accounts.admit(program(row), address(n))[1] for n in range(3)]
    set_limits(board, row, instances=1)
    for slot in slots:
        assert accounts.admit(program(row), HERE)[0] == Verdict.INSTANCES
        accounts.drop(slot)
    assert accounts.admit(program(row), HERE)[0] == Verdict.ADMIT


def test_process_limit_is_for_all_services(board: Board) -> None:
    rows, accounts = [open_row(board), open_row(board)], Accounts(board, 0)
    board.set_process_limit(2)
    assert [accounts.admit(program(row), HERE)[0] for row in rows] == [Verdict.ADMIT] * 2
    assert accounts.admit(program(rows[0]), HERE) == (Verdict.PROCESS_LIMIT, -1)
    assert (board.live, board.row_live(rows[0])) == (2, 1)
    board.set_process_limit(None)
    assert accounts.admit(program(rows[0]), HERE)[0] == Verdict.ADMIT


def test_limits_of_zero_admit_nobody(board: Board) -> None:
    accounts = Accounts(board, 0)
    assert accounts.admit(program(open_row(board, instances=0)), HERE)[0] == Verdict.INSTANCES
    assert accounts.admit(program(open_row(board, per_source=0)), HERE)[0] == Verdict.PER_SOURCE
    board.set_process_limit(0)
    assert accounts.admit(program(open_row(board)), HERE)[0] == Verdict.PROCESS_LIMIT
    assert board.live == 0
    assert board.slots_in_use() == []


@pytest.mark.parametrize("enabled", [False, True])
def test_enabled(board: Board, enabled: bool) -> None:
    row = open_row(board, enabled=enabled)
    wanted = Verdict.ADMIT if enabled else Verdict.DISABLED
    assert Accounts(board, 0).admit(program(row), HERE)[0] == wanted


# ---- sources ----


def test_per_source_is_exact_for_each_of_many(board: Board) -> None:
    row, accounts = open_row(board, per_source=3), Accounts(board, 0)
    admitted = Counter(
        n for _ in range(5) for n in range(20) if accounts.admit(program(row), address(n))[0] == Verdict.ADMIT
    )
    assert admitted == Counter(dict.fromkeys(range(20), 3))


def test_a_source_is_counted_for_each_service_alone(board: Board) -> None:
    accounts = Accounts(board, 0)
    for row in (open_row(board, per_source=1), open_row(board, per_source=1)):
        verdicts = [accounts.admit(program(row), HERE)[0] for _ in range(2)]
        assert verdicts == [Verdict.ADMIT, Verdict.PER_SOURCE]


def test_ipv4_and_ipv6_are_different_sources(board: Board) -> None:
    row, accounts = open_row(board, per_source=1), Accounts(board, 0)
    for peer in (HERE, HERE + bytes(12), bytes(12) + HERE):
        assert [accounts.admit(program(row), peer)[0] for _ in range(2)] == [Verdict.ADMIT, Verdict.PER_SOURCE]


def test_every_bit_of_an_address_makes_a_source(board: Board) -> None:
    """Neighbours in a network of IPv6 too: the last and the first bits alone are different."""
    row, accounts = open_row(board, per_source=1), Accounts(board, 0)
    six = [bytes(at) + bytes([bit]) + bytes(15 - at) for at, bit in ((15, 1), (15, 2), (8, 1), (7, 1), (0, 1))]
    for peer in [*six, bytes(3) + b"\1"]:
        assert [accounts.admit(program(row), peer)[0] for _ in range(2)] == [Verdict.ADMIT, Verdict.PER_SOURCE]


def test_the_port_does_not_make_a_source(board: Board) -> None:
    row, accounts = open_row(board, per_source=1), Accounts(board, 0)
    verdicts = [accounts.admit(program(row), HERE, port)[0] for port in (1, 2)]
    assert verdicts == [Verdict.ADMIT, Verdict.PER_SOURCE]


def test_clients_without_an_address_are_not_counted_by_source(board: Board) -> None:
    row, accounts = open_row(board, per_source=1), Accounts(board, 0)
    assert [accounts.admit(program(row), b"")[0] for _ in range(3)] == [Verdict.ADMIT] * 3


class Table:
    """The source table of a Board with one page of it, found by what an admission changes."""

    def __init__(self, board: Board, row: int, accounts: Accounts) -> None:
        self._row, self._accounts = row, accounts
        self._memory = mmap.mmap(board.fd, os.fstat(board.fd).st_size, prot=mmap.PROT_READ)
        before = self._words(0, len(self._memory))
        slot = accounts.admit(program(row), HERE)[1]
        after = self._words(0, len(self._memory))
        changed = {at: new for at, (old, new) in enumerate(zip(before, after)) if old != new}
        # The slot keeps the source's whole hash, the table its upper bits and the count.
        uppers = Counter(new >> 20 for new in changed.values())
        (at,) = (at for at, new in changed.items() if uppers[new >> 20] == 2 and new & 0xFFFFF == 1)
        self._page = at * 8 // PAGE * PAGE
        accounts.drop(slot)
        assert not any(self.words())

    def _words(self, begin: int, end: int) -> array[int]:
        return array("Q", self._memory[begin:end])

    def words(self) -> array[int]:
        return self._words(self._page, self._page + PAGE)

    def bucket_of(self, peer: bytes) -> int:
        slot = self._accounts.admit(program(self._row), peer)[1]
        (at,) = (at for at, word in enumerate(self.words()) if word)
        self._accounts.drop(slot)
        return at // 8

    def of_one_bucket(self, wanted: int) -> list[bytes]:
        """So many addresses that fall into the same bucket."""
        buckets: dict[int, list[bytes]] = {}
        for number in range(10_000):
            peers = buckets.setdefault(self.bucket_of(address(number)), [])
            peers.append(address(number))
            if len(peers) == wanted:
                return peers
        raise AssertionError("the hash does not spread")

    def close(self) -> None:
        self._memory.close()


@pytest.fixture
def table(board: Board) -> Iterator[Table]:
    made = Table(board, open_row(board), Accounts(board, 0))
    yield made
    made.close()


def test_full_bucket(board: Board, table: Table) -> None:
    """The ninth source of a bucket cannot be counted: refused where sources are limited, admitted where not."""
    accounts = Accounts(board, 0)
    *eight, ninth = table.of_one_bucket(9)
    row = 0
    slots = [accounts.admit(program(row), peer)[1] for peer in eight]
    assert min(slots) >= 0
    verdict, slot = accounts.admit(program(row), ninth)
    assert verdict == Verdict.ADMIT
    accounts.drop(slot)
    assert sum(map(bool, table.words())) == 8
    set_limits(board, row, per_source=5)
    assert accounts.admit(program(row), ninth) == (Verdict.SOURCES_FULL, -1)
    assert board.live == 8
    assert accounts.admit(program(row), eight[3])[0] == Verdict.ADMIT
    accounts.drop(slots[0])
    assert accounts.admit(program(row), ninth)[0] == Verdict.ADMIT
    assert board.consistent()


def test_sources_of_one_bucket_keep_counts_of_their_own(board: Board, table: Table) -> None:
    accounts = Accounts(board, 0)
    peers = table.of_one_bucket(8)
    for number, peer in enumerate(peers):
        for _ in range(number + 1):
            assert accounts.admit(program(0), peer)[0] == Verdict.ADMIT
    assert sorted(word & 0xFFFFF for word in table.words() if word) == [*range(1, 9)]
    assert board.close_gate(set())
    board.recount()
    board.open_gate()
    assert sorted(word & 0xFFFFF for word in table.words() if word) == [*range(1, 9)]


def test_the_table_is_empty_when_all_have_left(board: Board, table: Table) -> None:
    accounts = Accounts(board, 0)
    slots = [accounts.admit(program(0), address(n % 30))[1] for n in range(100)]
    assert min(slots) >= 0
    for slot in slots:
        accounts.drop(slot)
    assert not any(table.words())


# ---- everything together ----

Step = tuple[int, int, int, int]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 6) | st.none(), st.integers(0, 3) | st.none(), st.integers(0, 12) | st.none(),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), st.integers(0, 4)), max_size=80),
)
def test_any_sequence(
    instances: int | None, per_source: int | None, process_limit: int | None, steps: list[Step]
) -> None:
    """Several processes' accounts on one Board admit what the limits allow, and counting again changes nothing."""
    board = Board.create(2, 8, 3)
    try:
        rows = [open_row(board, instances=instances, per_source=per_source) for _ in range(2)]
        board.set_process_limit(process_limit)
        hands = [Accounts(board, board.section_claim(1)) for _ in range(3)]
        held: list[tuple[int, int, int]] = []  # slot, row, source
        for action, hand, which, source in steps:
            row = rows[which]
            if action == 0 and held:
                hands[hand].drop(held.pop(source % len(held))[0])
            elif action == 1:
                assert board.close_gate(set())
                board.recount()
                board.open_gate()
            else:
                verdict, slot = hands[hand].admit(program(row), address(source))
                of_row = sum(r == row for _, r, _ in held)
                of_source = sum((r, s) == (row, source) for _, r, s in held)
                if len(held) == 8:
                    wanted = Verdict.SLOTS_FULL
                elif instances is not None and of_row >= instances:
                    wanted = Verdict.INSTANCES
                elif process_limit is not None and len(held) >= process_limit:
                    wanted = Verdict.PROCESS_LIMIT
                elif per_source is not None and of_source >= per_source:
                    wanted = Verdict.PER_SOURCE
                else:
                    wanted = Verdict.ADMIT
                    held.append((slot, row, source))
                assert verdict == wanted
            assert board.live == len(held)
            assert [board.row_live(row) for row in rows] == [sum(r == row for _, r, _ in held) for row in rows]
            assert {slot.slot for slot in board.slots_in_use()} == {slot for slot, _, _ in held}
            assert board.consistent()
    finally:
        os.close(board.fd)


# ---- rates ----


@given(st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_rate_admits_its_count_at_once(count: int) -> None:
    board = Board.create(1, 100, 1)
    try:
        row, accounts = open_row(board, rate_count=count, rate_period=HOUR), Accounts(board, 0)
        verdicts = [accounts.admit(program(row), HERE)[0] for _ in range(count + 3)]
        assert verdicts == [Verdict.ADMIT] * count + [Verdict.RATE] * 3
        assert 3590 < board.rate_wait(row) <= 3600
    finally:
        os.close(board.fd)


def test_a_refused_start_costs_no_rate(board: Board) -> None:
    """What a later limit refuses is given back to the rate."""
    row = open_row(board, instances=0, rate_count=1, rate_period=HOUR)
    accounts = Accounts(board, 0)
    for _ in range(3):
        assert accounts.admit(program(row), HERE)[0] == Verdict.INSTANCES
    assert board.rate_wait(row) == 0.0
