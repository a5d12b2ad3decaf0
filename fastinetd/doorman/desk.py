"""Questions whose answer depends on a client's names: which wait for which lookup, which names are known.

Theory. A question is in one of two states. Answered: its verdict was found at once (the address decides, the names are
known, or the question cannot be read), or later by `learn_names` or `expire_questions`. Waiting: it is in `_waiting`,
and in `_lookups` under its address. All questions wait for the same time, so `_waiting` is in the order of deadlines. A
lookup runs from the moment `ask` returns its address until `learn_names` or `forget_lookup`; it may outlive the
questions that wait for it, and a new question about its address joins it. At its deadline a question is answered as if
the client had no name.

Rules of this file: for each lookup `learn_names` is called once or, if it was cancelled, `forget_lookup`, which is
called only when no question waits for it. No socket, thread or clock here; times are seconds of one clock that does
not run backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastinetd.doorman.protocol import DECIDE_WITHIN
from fastinetd.policy.access import AccessTable, Address, AddressVerdict, decide_named, verdict_at

KEEP_NAMED = 60.0  # seconds for which names are kept
KEEP_NAMELESS = 10.0  # seconds for which it is kept that an address has no name
ADDRESSES_KEPT = 4096  # with names; with more the oldest is dropped

Names = frozenset[str]
"""Confirmed names of a client: lower case, no dot at the end."""


@dataclass(frozen=True, slots=True)
class Question:
    """May the client with `address` use the service of `row`? `channel` and `cookie` together identify a question."""

    channel: int
    cookie: int
    row: int
    address: Address | None  # IPv4 for an IPv4-mapped one; None: it cannot be read

    @property
    def key(self) -> tuple[int, int]:
        """Channel and cookie."""
        return self.channel, self.cookie


Answer = tuple[int, int, bool]
"""Channel, cookie, whether the client is allowed."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A question that waits for a lookup."""

    question: Question
    address: Address
    table: AccessTable
    deadline: float

    def answer(self, names: Names) -> Answer:
        """The answer to the question if the client has these names."""
        return *self.question.key, decide_named(self.table, self.address, names)


class Desk:
    """Turns questions into answers, with access tables, kept names and deadlines."""

    def __init__(self, tables: Mapping[int, AccessTable]) -> None:
        """`tables`: row of the Board -> access table of its service."""
        self._tables = tables
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._lookups: dict[Address, dict[tuple[int, int], _Waiting]] = {}
        self._known: dict[Address, tuple[Names, float]] = {}  # names, and until when they are kept

    @property
    def deadline(self) -> float | None:
        """The time of the next deadline; None when no question waits."""
        return next((waiting.deadline for waiting in self._waiting.values()), None)

    def is_waiting(self, question: Question) -> bool:
        """Whether a question with this channel and cookie waits."""
        return question.key in self._waiting

    def ask(self, question: Question, now: float) -> tuple[bool | None, Address | None]:
        """Whether the client is allowed, or None when the answer comes later; and an address whose lookup must begin.

        The question must not wait already. An unknown row or an address that cannot be read is refused.
        """
        table, address = self._tables.get(question.row), question.address
        if table is None or address is None:
            return False, None
        verdict = verdict_at(table, address)
        if verdict is not AddressVerdict.ASK:
            return verdict is AddressVerdict.ALLOW, None
        names, until = self._known.get(address, (None, 0.0))
        if names is not None and now < until:
            return decide_named(table, address, names), None
        begin = address not in self._lookups
        waiting = _Waiting(question, address, table, now + DECIDE_WITHIN)
        self._lookups.setdefault(address, {})[question.key] = waiting
        self._waiting[question.key] = waiting
        return None, address if begin else None

    def learn_names(self, address: Address, names: Names, now: float) -> list[Answer]:
        """Keep the names that the lookup of an address found; returns answers to the questions that waited for it."""
        self._known.pop(address, None)
        if len(self._known) >= ADDRESSES_KEPT:
            del self._known[next(iter(self._known))]  # the oldest, for a dict keeps its order
        self._known[address] = names, now + (KEEP_NAMED if names else KEEP_NAMELESS)
        waiters = self._lookups.pop(address)
        for key in waiters:
            del self._waiting[key]
        return [waiting.answer(names) for waiting in waiters.values()]

    def expire_questions(self, now: float) -> tuple[list[Answer], list[Address]]:
        """Answers to questions past their deadline, and the addresses whose lookup no question waits for any more."""
        overdue = []
        for waiting in self._waiting.values():
            if now < waiting.deadline:
                break
            overdue.append(waiting)
        idle = []
        for waiting in overdue:
            del self._waiting[waiting.question.key]
            waiters = self._lookups[waiting.address]
            del waiters[waiting.question.key]
            if not waiters:
                idle.append(waiting.address)
        return [waiting.answer(frozenset()) for waiting in overdue], idle

    def forget_lookup(self, address: Address) -> None:
        """Forget the lookup of an address, for which no question waits, and which was cancelled before it began."""
        del self._lookups[address]
