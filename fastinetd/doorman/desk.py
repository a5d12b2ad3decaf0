"""Questions whose answer hangs on a client's names: who waits for which lookup, what is known or overdue.

Theory. A question is in one of two states. Answered: its verdict was found at once (numbers decide, the names
are known, or there is nothing to decide by), or by `learn` or `expire` later. Waiting: it stands in
`_waiting`, and among those who wait for its address in `_lookups`. All questions wait equally long, so
`_waiting` is in the order of deadlines. A lookup is in flight from the moment `ask` says so until `learn` or
`forget`; it may outlive those who waited for it, and a new question about its address joins it. At its
deadline a question is answered as if the client had no name.

Rules: `learn` is called once for each lookup begun, or `forget` in its place when it was cancelled, and only
when nobody waits for it. No socket, thread or clock here; times are seconds of one clock that does not run
backwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastinetd.doorman.protocol import DECIDE_WITHIN
from fastinetd.policy.access import AccessTable, Address, AddressVerdict, decide_named, verdict_at

KEEP_NAMED = 60.0  # seconds that names are remembered
KEEP_NAMELESS = 10.0  # seconds that their absence is
MOST_KEPT = 4096  # addresses remembered; beyond, the oldest goes

Names = frozenset[str]
"""Confirmed names of a client: lower case, no dot at the end."""


@dataclass(frozen=True, slots=True)
class Question:
    """May this client use that service? `channel` and `cookie` together name the question."""

    channel: int
    cookie: int
    row: int
    address: Address | None  # IPv4 for IPv4-mapped; None: unreadable

    @property
    def key(self) -> tuple[int, int]:
        return self.channel, self.cookie


Answer = tuple[int, int, bool]
"""Channel, cookie, whether the client is allowed."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    question: Question
    address: Address
    table: AccessTable
    deadline: float

    def answer(self, names: Names) -> Answer:
        return *self.question.key, decide_named(self.table, self.address, names)


class Desk:
    """Turns questions into answers."""

    def __init__(self, tables: Mapping[int, AccessTable]) -> None:
        """`tables`: row -> its access table."""
        self._tables = tables
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._lookups: dict[Address, dict[tuple[int, int], _Waiting]] = {}
        self._known: dict[Address, tuple[Names, float]] = {}  # names, and until when; the oldest first

    @property
    def deadline(self) -> float | None:
        """When `expire` will next have something to do."""
        return next((waiting.deadline for waiting in self._waiting.values()), None)

    @property
    def remembered(self) -> int:
        """How many addresses' names are remembered."""
        return len(self._known)

    def is_waiting(self, question: Question) -> bool:
        """Whether a question of the same channel and cookie waits."""
        return question.key in self._waiting

    def ask(self, question: Question, now: float) -> tuple[bool | None, Address | None]:
        """The verdict, or None when it will come later; and an address whose lookup must begin, if any.

        The question must not be waiting already. An unknown row or an unreadable address is refused.
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

    def learn(self, address: Address, names: Names, now: float) -> list[Answer]:
        """A lookup has ended: the answers to those who waited for it."""
        self._known.pop(address, None)
        if len(self._known) >= MOST_KEPT:
            del self._known[next(iter(self._known))]
        self._known[address] = names, now + (KEEP_NAMED if names else KEEP_NAMELESS)
        waiters = self._lookups.pop(address)
        for key in waiters:
            del self._waiting[key]
        return [waiting.answer(names) for waiting in waiters.values()]

    def expire(self, now: float) -> tuple[list[Answer], list[Address]]:
        """Answers to those who waited too long, and the lookups that lost their last waiter by it."""
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

    def forget(self, address: Address) -> None:
        """A lookup nobody waits for was cancelled before it began."""
        del self._lookups[address]
