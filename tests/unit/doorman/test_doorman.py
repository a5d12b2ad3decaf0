"""The doorman's process: questions over real socket pairs, answers from a resolver the tests hold in hand."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from fastinetd.doorman import doorman
from fastinetd.doorman.desk import Names, Question
from fastinetd.doorman.doorman import THREADS, parse_question, run
from fastinetd.doorman.protocol import ANSWER, DECIDE_WITHIN, QUESTION
from fastinetd.policy.access import Address, compile_access

WAIT = 30.0  # seconds until a test that hears nothing fails
FRIENDS, STRANGERS = 1, 2
TABLES = {
    FRIENDS: compile_access((".friend",), None, lambda name: None),
    STRANGERS: compile_access(None, (".foe",), lambda name: None),
}


class Acceptor:
    """The other end of a channel."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(WAIT)
        self.theirs = theirs.detach()

    def ask(self, cookie: int, address: str, row: int = FRIENDS, family: int | None = None) -> None:
        raw = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        family = family or (6 if ":" in address else 4)
        self.socket.send(QUESTION.pack(cookie, row, family, 0, raw.ljust(16, b"\xff")))

    def hear(self) -> tuple[int, int]:
        cookie, verdict = ANSWER.unpack(self.socket.recv(64))
        return cookie, verdict


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def friendly(address: Address) -> Names:
    """192.0.2.x is x.friend, others are strangers."""
    return frozenset({f"n{int(address) & 255}.friend"} if str(address).startswith("192.0.2.") else ())


class Running:
    """A doorman in a thread, with the acceptors it serves."""

    def __init__(self, acceptors: int, resolver: Callable[[Address], Names], clock: Callable[[], float]) -> None:
        self.acceptors = [Acceptor() for _ in range(acceptors)]
        control, self.held = os.pipe()
        channels = [acceptor.theirs for acceptor in self.acceptors]
        self.thread = threading.Thread(
            target=run,
            args=(channels, TABLES),
            kwargs={"control": control, "resolver": resolver, "clock": clock},
        )
        self.thread.start()

    def ended(self) -> bool:
        self.thread.join(WAIT)
        return not self.thread.is_alive()

    def let_go(self) -> None:
        if self.held >= 0:
            os.close(self.held)
            self.held = -1


@contextmanager
def running(
    resolver: Callable[[Address], Names] = friendly,
    acceptors: int = 1,
    clock: Callable[[], float] | None = None,
) -> Iterator[Running]:
    it = Running(acceptors, resolver, clock or Clock())
    try:
        yield it
    finally:
        it.let_go()
        ended = it.ended()
        for acceptor in it.acceptors:
            acceptor.socket.close()
        assert ended


def test_answers_by_name() -> None:
    with running() as it:
        one = it.acceptors[0]
        for cookie, address, row, verdict in [
            (2**64 - 1, "192.0.2.1", FRIENDS, 1),
            (0, "198.51.100.1", FRIENDS, 0),
            (5, "198.51.100.1", STRANGERS, 1),
            (6, "::ffff:192.0.2.9", FRIENDS, 1),
            (7, "2001:db8::1", FRIENDS, 0),
            (8, "192.0.2.1", 77, 0),
        ]:
            one.ask(cookie, address, row)
            assert one.hear() == (cookie, verdict)


def test_garbage_is_ignored() -> None:
    with running() as it:
        one = it.acceptors[0]
        for garbage in (b"", b"x", b"x" * 31, b"x" * 33, b"x" * 5000):
            one.socket.send(garbage)
        one.ask(1, "192.0.2.1", family=5)
        one.ask(2, "192.0.2.1")
        assert [one.hear(), one.hear()] == [(1, 0), (2, 1)]


class Lookups:
    """A resolver whose lookups begin at once and end when the test lets them."""

    def __init__(self) -> None:
        self.addresses: list[Address] = []
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()

    def __call__(self, address: Address) -> Names:
        self.addresses.append(address)
        self.begun.release()
        assert self.release.wait(WAIT)
        return friendly(address)

    def await_begun(self, count: int = 1) -> None:
        """Wait until so many more have begun."""
        for _ in range(count):
            assert self.begun.acquire(timeout=WAIT)


def test_a_slow_lookup_holds_up_nobody_else() -> None:
    release = threading.Event()

    def resolver(address: Address) -> Names:
        if address == IPv4Address("192.0.2.1"):
            assert release.wait(WAIT)
        return friendly(address)

    with running(resolver, acceptors=2) as it:
        one, two = it.acceptors
        one.ask(1, "192.0.2.1")
        one.ask(2, "192.0.2.2")
        two.ask(3, "192.0.2.3")
        assert one.hear() == (2, 1)
        assert two.hear() == (3, 1)
        release.set()
        assert one.hear() == (1, 1)


def test_a_failing_lookup_means_no_name() -> None:
    def resolver(address: Address) -> Names:
        raise OSError("no name server") if int(address) & 1 else RuntimeError("broken")

    with running(resolver) as it:
        one = it.acceptors[0]
        for cookie, row, verdict in ((1, FRIENDS, 0), (2, STRANGERS, 1), (4, FRIENDS, 0)):
            one.ask(cookie, f"192.0.2.{cookie}", row)
            assert one.hear() == (cookie, verdict)


def test_one_lookup_for_all_channels_and_later_questions() -> None:
    lookups = Lookups()
    with running(lookups, acceptors=2) as it:
        one, two = it.acceptors
        one.ask(1, "192.0.2.1")
        lookups.await_begun()
        one.ask(1, "192.0.2.1")  # asked again: still one answer
        two.ask(1, "192.0.2.1")
        one.ask(2, "::ffff:192.0.2.1")
        for acceptor in (one, two):  # answered in order: what was sent before has been read
            acceptor.ask(9, "192.0.2.1", 77)
            assert acceptor.hear() == (9, 0)
        lookups.release.set()
        assert [one.hear(), one.hear(), two.hear()] == [(1, 1), (2, 1), (1, 1)]
        one.ask(3, "192.0.2.1")
        assert one.hear() == (3, 1)
    assert lookups.addresses == [IPv4Address("192.0.2.1")]


def test_deadline() -> None:
    """Lookups that hang: their clients are refused in time, those queued behind are cancelled, and all recovers."""
    lookups, clock = Lookups(), Clock()
    with running(lookups, clock=clock) as it:
        one = it.acceptors[0]
        for cookie in range(THREADS + 4):
            one.ask(cookie, f"192.0.2.{cookie}")
        one.ask(100, "192.0.2.200", 77)
        assert one.hear() == (100, 0)
        lookups.await_begun(THREADS)
        clock.now += DECIDE_WITHIN
        one.socket.send(b"awake")
        assert sorted(one.hear() for _ in range(THREADS + 4)) == [(n, 0) for n in range(THREADS + 4)]
        lookups.release.set()
        one.ask(101, "192.0.2.201")
        assert one.hear() == (101, 1)
    assert len(lookups.addresses) == THREADS + 1


def test_an_acceptor_that_does_not_listen_loses_no_answer() -> None:
    with running(acceptors=2) as it:
        one, two = it.acceptors
        one.socket.setblocking(False)
        sent = blocked = 0
        while blocked < 3:  # until nothing is read from it, though the doorman has had its turns
            try:
                one.ask(sent, "192.0.2.1", 77)
                sent, blocked = sent + 1, 0
            except BlockingIOError:
                blocked += 1
                two.ask(blocked, "192.0.2.2")
                assert two.hear() == (blocked, 1)
        one.socket.settimeout(WAIT)
        assert [one.hear() for _ in range(sent)] == [(cookie, 0) for cookie in range(sent)]
        one.ask(sent, "192.0.2.1")
        assert one.hear() == (sent, 1)


def test_a_channel_with_too_many_questions_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorman, "MOST_WAITING", 3)
    lookups = Lookups()
    with running(lookups, acceptors=2) as it:
        one, two = it.acceptors
        for cookie in range(10):
            one.ask(cookie, f"192.0.2.{cookie}")
        one.ask(10, "192.0.2.1", 77)
        two.ask(1, "192.0.2.1", 77)
        assert two.hear() == (1, 0)
        lookups.release.set()
        assert sorted(one.hear() for _ in range(11)) == [(n, 1) for n in range(10)] + [(10, 0)]


def test_ends_with_its_control_descriptor() -> None:
    with running() as it:
        os.write(it.held, b"ignored")
        it.acceptors[0].ask(1, "192.0.2.1")
        assert it.acceptors[0].hear() == (1, 1)
        it.let_go()
        assert it.ended()
        assert it.acceptors[0].socket.recv(64) == b""


def test_ends_while_a_lookup_hangs() -> None:
    begun, release, late = threading.Event(), threading.Event(), threading.Event()

    def resolver(address: Address) -> Names:
        begun.set()
        assert release.wait(WAIT)
        late.set()
        return friendly(address)

    with running(resolver) as it:
        it.acceptors[0].ask(1, "192.0.2.1")
        assert begun.wait(WAIT)
        it.let_go()
        assert it.ended()
        release.set()
        assert late.wait(WAIT)


def test_ends_with_its_last_channel() -> None:
    lookups = Lookups()
    with running(lookups, acceptors=2) as it:
        one, two = it.acceptors
        one.ask(1, "192.0.2.1")
        lookups.await_begun()
        one.socket.close()  # its answer is void
        two.ask(2, "192.0.2.1")
        lookups.release.set()
        assert two.hear() == (2, 1)
        two.socket.shutdown(socket.SHUT_WR)
        assert it.ended()


def test_every_descriptor_is_closed() -> None:
    def open_descriptors() -> set[str]:
        return {entry.name for entry in Path("/proc/self/fd").iterdir()}

    before = open_descriptors()
    with running(acceptors=3) as it:
        it.acceptors[0].ask(1, "192.0.2.1")
        assert it.acceptors[0].hear() == (1, 1)
    assert open_descriptors() == before


def test_questions_are_parsed() -> None:
    four, six = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
    assert parse_question(3, QUESTION.pack(9, 4, 6, 0, six.packed)) == Question(3, 9, 4, six)
    assert parse_question(3, QUESTION.pack(9, 4, 4, 0, four.packed)) == Question(3, 9, 4, four)
    mapped = IPv6Address("::ffff:192.0.2.1")
    assert parse_question(3, QUESTION.pack(9, 4, 6, 0, mapped.packed)) == Question(3, 9, 4, four)
    assert parse_question(3, QUESTION.pack(9, 4, 0, 0, four.packed)) == Question(3, 9, 4, None)
    assert parse_question(3, b"x" * 31) is None


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody has a name once time is up; and as soon as threads can be started, names are found again."""
    start = threading.Thread.start
    scarce = True

    def sparing(thread: threading.Thread) -> None:
        if scarce and thread.name.startswith("lookup"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", sparing)
    clock = Clock()
    with running(clock=clock) as it:
        one = it.acceptors[0]
        one.ask(1, "192.0.2.1")
        one.ask(2, "192.0.2.2")
        one.ask(3, "192.0.2.2", 77)
        assert one.hear() == (3, 0)
        clock.now += DECIDE_WITHIN
        one.ask(4, "192.0.2.2", 77)
        assert sorted(one.hear() for _ in range(3)) == [(1, 0), (2, 0), (4, 0)]
        scarce = False
        one.ask(5, "192.0.2.1")
        assert one.hear() == (5, 1)
