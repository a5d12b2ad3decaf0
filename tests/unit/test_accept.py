"""The acceptor in a process of its own: connections become servers, verdicts hold, retirement is orderly."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fastinetd._accept import Acceptor
from fastinetd.core.board import Board
from fastinetd.core.layout import Field, Method, OverRateRule, RecordKind, SlotState, Verdict
from fastinetd.core.program import Program, Ranges
from fastinetd.core.reception import RETIREMENT
from fastinetd.core.records import JournalRecord
from fastinetd.doorman.protocol import ANSWER, QUESTION
from fastinetd.plan.endpoints import has_ipv6
from support.clients import everything
from support.core import HOUR, await_end, open_row, program, reap, running
from support.proc import PATIENCE, Offspring, descriptors, wait_for

ALL = sum(Field)
WAIT, REFUSE, CLOSE = OverRateRule


class Accepting:
    """An acceptor with one listener."""

    def __init__(self) -> None:
        self.offspring = Offspring()
        self.board = Board.create(2, 64, 2)
        self.board.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.reader, self.control = os.pipe()
        self.asked, self.questions = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.asked.settimeout(PATIENCE)
        self.program: Program = program(0)
        self.row = -1

    def serve(self, *argv: str, ranges: Ranges | None = None, poolless: bool = False, **limits: Any) -> None:
        self.row = open_row(self.board, **limits)
        self.program = program(self.row, *argv, ranges=ranges, log_success=ALL, log_failure=ALL, poolless=poolless)

    def main(self) -> None:
        os.close(self.control)
        self.asked.close()
        section = self.board.section_claim(os.getpid())
        Acceptor(self.board, section, [(self.listener.fileno(), self.program)], self.reader,
                 self.questions.fileno()).run()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), PATIENCE)

    def rejected(self, verdict: Verdict) -> int:
        return self.board.counters(self.row).rejected[verdict]

    def retire(self) -> None:
        os.write(self.control, RETIREMENT)

    def close(self) -> None:
        self.offspring.end()
        for one in (self.listener, self.asked, self.questions):
            one.close()
        for descriptor in (self.reader, self.control, self.board.wake, self.board.fd):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.fixture
def accepting() -> Iterator[Accepting]:
    made = Accepting()
    yield made
    made.close()


def test_each_connection_has_a_server(accepting: Accepting) -> None:
    accepting.serve("/bin/cat")
    with running(accepting.main) as pid:
        clients = [accepting.connect() for _ in range(10)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
            client.shutdown(socket.SHUT_WR)
        assert [everything(client) for client in clients] == [b"%d" % number for number in range(10)]
        wait_for(lambda: accepting.board.live == 0, "all have ended")
        accepting.retire()
        assert reap(pid) == 0
    counters = accepting.board.counters(accepting.row)
    assert (counters.accepted, sum(counters.latency[Method.EXEC]), sum(counters.session)) == (10, 10, 10)
    records = accepting.board.take_records()
    assert sorted(record.kind for record in records) == [RecordKind.START] * 10 + [RecordKind.EXIT] * 10
    assert accepting.board.slots_in_use() == []


@pytest.mark.parametrize("poolless", [False, True])
def test_a_connection_whose_pool_is_refused_is_a_miss(accepting: Accepting, poolless: bool) -> None:
    accepting.serve("/bin/true", poolless=poolless)
    with running(accepting.main) as pid:
        for _ in range(3):
            assert everything(accepting.connect()) == b""
        wait_for(lambda: accepting.board.live == 0, "all have ended")
        accepting.retire()
        assert reap(pid) == 0
    counters = accepting.board.counters(accepting.row)
    assert (counters.pool_hits, counters.pool_misses) == (0, 3 * poolless)


def test_a_failed_start_closes_the_connection(accepting: Accepting) -> None:
    accepting.serve("/no/such/program")
    with running(accepting.main) as pid:
        for _ in range(3):
            assert everything(accepting.connect()) == b""
        accepting.retire()
        assert reap(pid) == 0
    assert sum(accepting.board.counters(accepting.row).spawn_failures) == 3
    assert accepting.board.live == 0


def test_instances(accepting: Accepting) -> None:
    accepting.serve("/bin/cat", instances=2)
    with running(accepting.main):
        held = [accepting.connect() for _ in range(2)]
        for client in held:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert everything(accepting.connect()) == b""
        assert accepting.rejected(Verdict.INSTANCES) == 1
        for client in held:
            client.close()
        wait_for(lambda: accepting.board.live == 0, "both have ended")
        with accepting.connect() as client:
            client.sendall(b"y")
            assert client.recv(1) == b"y"


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_the_place_of_an_ipv6_client_is_given_back(accepting: Accepting) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        accepting.listener.close()
        listener.setblocking(False)
        accepting.listener = listener
        accepting.serve("/bin/cat", per_source=1)
        with running(accepting.main):
            for _ in range(3):
                with socket.create_connection(listener.getsockname()[:2], PATIENCE) as client:
                    client.sendall(b"x")
                    assert client.recv(1) == b"x"
                    assert everything(socket.create_connection(listener.getsockname()[:2], PATIENCE)) == b""
                wait_for(lambda: accepting.board.live == 0, "it has ended")
            assert accepting.rejected(Verdict.PER_SOURCE) == 3


class TestRates:
    """One start an hour."""

    def test_wait(self, accepting: Accepting) -> None:
        """The second waits in the kernel's queue, neither accepted nor refused."""
        accepting.serve("/bin/true", over_rate=WAIT, rate_count=1, rate_period=HOUR)
        with running(accepting.main):
            assert everything(accepting.connect()) == b""
            with accepting.connect():
                assert select.select([accepting.listener], [], [], PATIENCE)[0]
                assert accepting.board.counters(accepting.row).accepted == 1
                assert accepting.board.rate_wait(accepting.row) > 3500
                wait_for(lambda: accepting.board.row_awaits_rate(accepting.row), "it is known that it waits")

    def test_exact(self, accepting: Accepting) -> None:
        """No more than the count in any period: the next start comes a whole period after the first."""
        accepting.serve("/bin/cat", over_rate=WAIT, rate_count=10, rate_period=10**9)
        with running(accepting.main):
            clients = [accepting.connect() for _ in range(20)]
            wait_for(lambda: accepting.board.live == 20, "all are served")
            started = sorted(slot.started for slot in accepting.board.slots_in_use())
            assert started[10] - started[0] > 0.9  # what lies between a start's two readings of the clock is some ms
            assert started[19] - started[10] < 0.9
            for client in clients:
                client.close()

    def test_who_waits_is_counted(self, accepting: Accepting) -> None:
        """Each once, in a time that goes on until the queue is empty; who comes later and need not wait is not."""
        accepting.serve("/bin/cat", over_rate=WAIT, rate_count=3, rate_period=10**8)
        with running(accepting.main):
            clients = [accepting.connect() for _ in range(10)]
            wait_for(lambda: accepting.board.live == 10, "all are served")
            wait_for(lambda: not accepting.board.row_awaits_rate(accepting.row), "nobody waits any more")
            counters = accepting.board.counters(accepting.row)
            assert counters.rate_waits == 7
            assert 0.2 <= counters.rate_wait_ns / 1e9 < PATIENCE
            wait_for(lambda: accepting.board.rate_wait(accepting.row) == 0, "the rate has recovered")
            clients.append(accepting.connect())
            wait_for(lambda: accepting.board.live == 11, "one more is served")
            assert accepting.board.counters(accepting.row).rate_waits == 7
            held = [record for record in accepting.board.take_records() if record.kind == RecordKind.RATE_WAIT]
            assert [record.row for record in held] == [accepting.row]
            for client in clients:
                client.close()

    def test_refuse(self, accepting: Accepting) -> None:
        accepting.serve("/bin/true", over_rate=REFUSE, rate_count=1, rate_period=HOUR)
        with running(accepting.main):
            for _ in range(3):
                assert everything(accepting.connect()) == b""
            wait_for(lambda: accepting.rejected(Verdict.RATE) == 2, "two were refused")

    def test_close(self, accepting: Accepting) -> None:
        """The port is closed, and said to be; whoever listens again opens it."""
        accepting.serve("/bin/true", over_rate=CLOSE, rate_count=1, rate_period=HOUR, rate_pause=7)
        with running(accepting.main):
            for _ in range(2):
                everything(accepting.connect())
            wait_for(lambda: accepting.board.row_closed(accepting.row), "it was closed")
            with pytest.raises(ConnectionRefusedError):
                accepting.connect()
            closed = [record for record in accepting.board.take_records() if record.kind == RecordKind.DEACTIVATED]
            assert [record.value for record in closed] == [7]


def test_without_descriptors_a_listener_rests(accepting: Accepting) -> None:
    """A client that cannot be accepted is told of a few times in a second, and not as often as the processor can."""
    accepting.serve("/bin/true")

    def main() -> None:
        os.close(accepting.control)
        acceptor = Acceptor(accepting.board, accepting.board.section_claim(os.getpid()),
                            [(accepting.listener.fileno(), accepting.program)], accepting.reader, -1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        with suppress(OSError):
            while True:
                os.dup(0)
        acceptor.run()

    with running(main), accepting.connect():
        failures: list[JournalRecord] = []

        def enough() -> bool:
            records = accepting.board.take_records()
            failures.extend(record for record in records if record.kind == RecordKind.ACCEPT_FAILED)
            return len(failures) >= 4

        wait_for(enough, "it fails again and again")
    assert {record.value for record in failures} == {errno.EMFILE}
    assert all(later.when - first.when > 0.04 for first, later in pairwise(failures))


IMPATIENT = """
from fastinetd.doorman import protocol
protocol.ANSWER_WITHIN = protocol.ASK_AGAIN = 0

from unit.test_accept import Accepting, Ranges, Verdict, everything, running
accepting = Accepting()
accepting.serve("/bin/true", ranges=Ranges([(0, 2**32 - 1, Verdict.ASK)], []))
with running(accepting.main):
    assert everything(accepting.connect()) == b""
accepting.questions.close()
asked = 0
while accepting.asked.recv(64):
    asked += 1
assert accepting.rejected(Verdict.DOORMAN) == 1
print(f"asked {asked} times, then refused")
accepting.close()
"""
"""A program: a client that nobody answers for, where the protocol's times are none."""


class TestNames:
    """Whose verdict is ASK waits for the doorman."""

    @pytest.fixture
    def asking(self, accepting: Accepting) -> Accepting:
        accepting.serve("/bin/echo", "hello", ranges=Ranges([(0, 2**32 - 1, Verdict.ASK)], []))
        return accepting

    def question(self, asking: Accepting) -> tuple[int, int, int, bytes]:
        cookie, row, family, _, address = QUESTION.unpack(asking.asked.recv(QUESTION.size))
        return cookie, row, family, address

    def test_admitted(self, asking: Accepting) -> None:
        with running(asking.main):
            client = asking.connect()
            cookie, row, family, address = self.question(asking)
            assert (row, family, address) == (asking.row, 4, bytes([127, 0, 0, 1]) + bytes(12))
            assert asking.board.live == 0
            asked = time.monotonic()
            wait_for(lambda: time.monotonic() - asked > 0.1, "a slow answer")
            asking.asked.send(ANSWER.pack(cookie, 1))
            assert everything(client) == b"hello\n"
            wait_for(lambda: asking.board.live == 0, "it has ended")
        counters = asking.board.counters(asking.row)
        assert counters.latency_ns[Method.EXEC] > 1e8, "the client's wait is part of what its start took"
        assert counters.session_ns < counters.latency_ns[Method.EXEC]

    def test_refused(self, asking: Accepting) -> None:
        with running(asking.main):
            client = asking.connect()
            cookie = self.question(asking)[0]
            asking.asked.send(ANSWER.pack(cookie + 256, 1))  # nobody's answer
            asking.asked.send(ANSWER.pack(cookie, 0))
            assert everything(client) == b""
            assert asking.rejected(Verdict.NAME) == 1
            asking.asked.send(ANSWER.pack(cookie, 1))  # too late

    def test_a_retired_acceptor_awaits_its_answers(self, asking: Accepting) -> None:
        with running(asking.main) as pid:
            client = asking.connect()
            cookie = self.question(asking)[0]
            asking.retire()
            asking.asked.send(ANSWER.pack(cookie, 1))
            assert everything(client) == b"hello\n"
            assert reap(pid) == 0

    def test_it_waits_as_long_as_the_protocol_says(self) -> None:
        done = subprocess.run([sys.executable, "-c", IMPATIENT], env={"PYTHONPATH": str(Path(__file__).parents[1])},
                              capture_output=True, text=True, timeout=3 * PATIENCE, check=False)  # fmt: skip
        assert (done.stdout, done.stderr) == ("asked 1 times, then refused\n", "")

    def test_a_retired_acceptor_closes_no_port(self, accepting: Accepting) -> None:
        """over_rate = close after it has given up its listener: the descriptor's number may be anybody's."""
        ranges = Ranges([(0, 2**32 - 1, Verdict.ASK)], [])
        accepting.serve("/bin/true", ranges=ranges, over_rate=CLOSE, rate_count=1, rate_period=HOUR, rate_pause=7)
        listener = f"socket:[{os.fstat(accepting.listener.fileno()).st_ino}]"
        with running(accepting.main) as pid:
            clients = [accepting.connect() for _ in range(2)]
            cookies = [self.question(accepting)[0] for _ in clients]
            accepting.retire()
            wait_for(lambda: listener not in descriptors(pid).values(), "it has given up the listener")
            for cookie in cookies:
                accepting.asked.send(ANSWER.pack(cookie, 1))
            assert [everything(client) for client in clients] == [b"", b""]
            assert reap(pid) == 0
        assert accepting.rejected(Verdict.RATE) == 1
        assert not accepting.board.row_closed(accepting.row)
        accepting.connect().close()


class TestLeaving:
    def test_retired_with_servers_running(self, accepting: Accepting) -> None:
        """It leaves at once; its servers stay where they are, for the supervisor to adopt."""
        accepting.serve("/bin/cat")
        with running(accepting.main) as pid, accepting.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            accepting.retire()
            assert reap(pid) == 0
            (slot,) = accepting.board.slots_in_use()
            assert slot.state == SlotState.RUNNING
            client.sendall(b"y")
            assert client.recv(1) == b"y"
            ((found, server, state),) = accepting.board.adopt(slot.section, 1)
            assert (found, server, state) == (slot.slot, slot.pid, SlotState.RUNNING)

    def test_left_alone(self, accepting: Accepting) -> None:
        accepting.serve("/bin/cat")
        with running(accepting.main) as pid:
            os.close(accepting.control)
            accepting.control = -1
            await_end(pid)
            assert reap(pid) == 0


def test_descriptors_of_an_acceptor_are_high(accepting: Accepting) -> None:
    """What it keeps for long stands at 64 or above: only the ones below are copied into a child."""
    accepting.serve("/bin/cat")
    inherited = set(os.listdir("/proc/self/fd"))  # a role closes these; the test's own process is forked as it is
    with running(accepting.main) as pid, accepting.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


        def kept() -> list[int]:
            """Its epoll descriptor and, once it watches it, that of the server."""
            own = {fd: kind for fd, kind in descriptors(pid).items() if str(fd) not in inherited}
            return [fd for fd, kind in own.items() if kind in ("anon_inode:[eventpoll]", "anon_inode:[pidfd]")]

        wait_for(lambda: len(kept()) >= 2, "the server is watched")
        assert min(kept()) >= 64
