"""The doorman's desk: sharing, remembering and giving up, on a clock the tests turn."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from fastinetd.doorman.desk import ADDRESSES_KEPT, KEEP_NAMED, KEEP_NAMELESS, Desk, Names, Question
from fastinetd.doorman.protocol import DECIDE_WITHIN
from fastinetd.policy.access import AccessTable, Address, compile_access, decide_named


def table_of(only_from: str | None, no_access: str | None = None) -> AccessTable:
    split = [None if text is None else tuple(text.split()) for text in (only_from, no_access)]
    return compile_access(split[0], split[1], lambda name: None)


FRIENDS, NUMBERS, STRANGERS = 1, 2, 3
TABLES = {FRIENDS: table_of(".friend"), NUMBERS: table_of("10.0.0.1"), STRANGERS: table_of(None, ".foe")}
ONE, TWO = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
FRIEND, NOBODY = frozenset({"a.friend"}), frozenset[str]()


def question(cookie: int, row: int = FRIENDS, address: Address | None = ONE, channel: int = 7) -> Question:
    return Question(channel, cookie, row, address)


def test_numbers_answer_at_once() -> None:
    desk = Desk(TABLES)
    assert desk.ask(question(1, NUMBERS, IPv4Address("10.0.0.1")), 0.0) == (True, None)
    assert desk.ask(question(2, NUMBERS, ONE), 0.0) == (False, None)
    assert desk.ask(question(3, 99), 0.0) == (False, None)
    assert desk.ask(question(4, address=None), 0.0) == (False, None)
    assert desk.deadline is None


def test_one_lookup_for_all_who_ask() -> None:
    desk = Desk(TABLES)
    assert desk.ask(question(1), 0.0) == (None, ONE)
    assert desk.ask(question(2, STRANGERS), 1.0) == (None, None)
    assert desk.ask(question(1, channel=8), 1.0) == (None, None)
    assert desk.ask(question(3, address=TWO), 2.0) == (None, TWO)
    assert desk.is_waiting(question(1))
    assert desk.learn_names(ONE, FRIEND, 3.0) == [(7, 1, True), (7, 2, True), (8, 1, True)]
    assert not desk.is_waiting(question(1))
    assert desk.deadline == 2.0 + DECIDE_WITHIN


def test_names_are_remembered_for_a_while() -> None:
    desk = Desk(TABLES)
    for names, keep in ((FRIEND, KEEP_NAMED), (NOBODY, KEEP_NAMELESS)):
        assert desk.ask(question(1), 1000.0) == (None, ONE)
        desk.learn_names(ONE, names, 1001.0)
        assert desk.ask(question(2), 1001.0 + keep - 0.1) == (bool(names), None)
        assert desk.ask(question(3), 1001.0 + keep) == (None, ONE)
        desk.learn_names(ONE, NOBODY, -1000.0)  # long forgotten


def test_overdue_questions_are_answered_as_nameless() -> None:
    desk = Desk(TABLES)
    desk.ask(question(1), 0.0)
    desk.ask(question(2, STRANGERS), 1.0)
    assert desk.expire_questions(DECIDE_WITHIN - 0.1) == ([], [])
    assert desk.expire_questions(DECIDE_WITHIN) == ([(7, 1, False)], [])
    assert desk.deadline == DECIDE_WITHIN + 1.0
    assert desk.expire_questions(DECIDE_WITHIN + 1.0) == ([(7, 2, True)], [ONE])
    assert desk.deadline is None


def test_a_lookup_may_outlive_its_waiters() -> None:
    desk = Desk(TABLES)
    desk.ask(question(1), 0.0)
    desk.expire_questions(DECIDE_WITHIN)
    assert desk.ask(question(2), DECIDE_WITHIN) == (None, None)  # joins what is still in flight
    assert desk.learn_names(ONE, FRIEND, DECIDE_WITHIN + 1) == [(7, 2, True)]
    assert desk.ask(question(3), DECIDE_WITHIN + 2) == (True, None)


def test_a_cancelled_lookup_begins_anew() -> None:
    desk = Desk(TABLES)
    desk.ask(question(1), 0.0)
    assert desk.expire_questions(DECIDE_WITHIN)[1] == [ONE]
    desk.forget_lookup(ONE)
    assert desk.ask(question(2), DECIDE_WITHIN) == (None, ONE)


def test_memory_is_bounded() -> None:
    desk = Desk(TABLES)
    addresses = [IPv4Address(0x0A000000 + n) for n in range(ADDRESSES_KEPT + 3)]
    for cookie, address in enumerate(addresses):
        desk.ask(question(cookie, address=address), 0.0)
        desk.learn_names(address, FRIEND, 0.0)
    assert [desk.ask(question(0, address=a), 1.0)[0] for a in addresses[:4]] == [None, None, None, True]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3), st.sampled_from(list(TABLES))),
        st.tuples(st.just("learn"), st.integers(0, 3), st.sampled_from([FRIEND, NOBODY, frozenset({"b.foe"})])),
        st.tuples(st.just("pass"), st.sampled_from([1, 4, 11]), st.none()),
    ),
    max_size=60,
)


@given(steps)
def test_every_question_is_answered_once_and_right(steps: list[tuple[str, int, object]]) -> None:
    """The verdict is that of some names the address was found to have, or of none at the deadline."""
    desk, now, flying = Desk(TABLES), 0.0, set[Address]()
    asked: dict[int, tuple[Question, float]] = {}
    found: dict[Address, list[Names]] = {}
    answered: set[int] = set()

    def settle(cookie: int, allowed: bool) -> None:
        assert cookie not in answered
        answered.add(cookie)
        question, since = asked[cookie]
        assert question.address is not None
        assert now - since <= DECIDE_WITHIN + 11
        candidates = [NOBODY, *found.get(question.address, [])]
        assert allowed in [decide_named(TABLES[question.row], question.address, names) for names in candidates]

    for kind, number, what in steps:
        address = IPv4Address(number)
        if kind == "ask":
            assert isinstance(what, int)
            asked[len(asked)] = question(len(asked), what, address), now
            verdict, begin = desk.ask(asked[len(asked) - 1][0], now)
            if begin is not None:
                assert begin not in flying
                flying.add(begin)
            if verdict is not None:
                settle(len(asked) - 1, verdict)
        elif kind == "learn" and address in flying:
            assert isinstance(what, frozenset)
            flying.discard(address)
            found.setdefault(address, []).append(what)
            for _, cookie, allowed in desk.learn_names(address, what, now):
                settle(cookie, allowed)
        elif kind == "pass":
            now += number
            for _, cookie, allowed in desk.expire_questions(now)[0]:
                settle(cookie, allowed)
    now += DECIDE_WITHIN
    for _, cookie, allowed in desk.expire_questions(now)[0]:
        settle(cookie, allowed)
    assert answered == set(asked)
    assert desk.deadline is None
