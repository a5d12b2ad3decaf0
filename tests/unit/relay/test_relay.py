"""The relay: echo, discard, chargen, daytime and time, on streams and datagrams."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from fastinetd._accept import RENEWAL
from fastinetd.core.board import Board
from fastinetd.core.layout import Field, RecordKind, SlotState, Status, Verdict
from fastinetd.core.program import Ranges
from fastinetd.core.reception import RETIREMENT
from fastinetd.relay.relay import Builtin, Relay
from support.clients import everything
from support.core import HOUR, open_row, program, reap, running
from support.proc import PATIENCE, wait_for

HOST = "127.0.0.1"
EPOCH_1900 = 2208988800
SHOWN = int(Field.SHOW_HOST | Field.SHOW_DURATION)


class Service:
    """One built-in service with a socket and a row of its own."""

    def __init__(self, board: Board, name: str, dgram: bool, values: dict[str, object]) -> None:
        limits = {key: values.pop(key) for key in [*values] if key not in ("ranges", "unix_socket")}
        self.board = board
        self.row = open_row(board, **limits)  # type: ignore[arg-type]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if dgram else socket.SOCK_STREAM)
        self.socket.bind((HOST, 0))
        self.socket.setblocking(False)
        if not dgram:
            self.socket.listen()
        self.program = program(
            self.row, builtin=Builtin[name.upper()], log_success=SHOWN, log_failure=SHOWN, **values
        )

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return host, port

    def connect(self, **options: int) -> socket.socket:
        client = socket.socket()
        for name, value in options.items():
            client.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        client.settimeout(PATIENCE)
        client.connect(self.address)
        return client

    def ask(self, data: bytes = b"?", client: socket.socket | None = None) -> bytes:
        """The answer to a datagram."""
        with client or socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.settimeout(PATIENCE)
            sender.sendto(data, self.address)
            return sender.recv(65536)


class Relayed:
    """A relay in a process of its own, and what it serves."""

    def __init__(self) -> None:
        self.board = Board.create(8, 16, 1)
        self.board.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.services: list[Service] = []
        self.pid = 0
        self.reader, self.control = os.pipe()

    def add(self, name: str, dgram: bool = False, **values: object) -> Service:
        self.services.append(Service(self.board, name, dgram, values))
        return self.services[-1]

    def main(self) -> None:
        os.close(self.control)
        listeners = [(each.socket.fileno(), each.program) for each in self.services]
        Relay(self.board, self.board.section_claim(os.getpid()), listeners, self.reader, -1).run()

    def close(self) -> None:
        for each in self.services:
            each.socket.close()
        for descriptor in (self.reader, self.control, self.board.wake, self.board.fd):
            if descriptor >= 0:
                os.close(descriptor)


Start = Callable[[], None]


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    made = Relayed()
    yield made
    made.close()


@pytest.fixture
def one(relayed: Relayed) -> Iterator[Callable[..., Service]]:
    """A running relay with one service; in the end nothing is left of its sessions."""
    started = []

    def start(name: str, dgram: bool = False, **values: object) -> Service:
        service = relayed.add(name, dgram, **values)
        child = running(relayed.main)
        relayed.pid = child.__enter__()
        started.append(child)
        return service

    yield start
    wait_for(lambda: relayed.board.live == 0, "no session is left")
    assert relayed.board.slots_in_use() == []
    os.write(relayed.control, RETIREMENT)
    assert reap(relayed.pid) == 0
    for child in started:
        child.__exit__(None, None, None)


def exactly(client: socket.socket, size: int) -> bytes:
    """So many bytes, or as many as come until the other side ends."""
    found = b""
    while len(found) < size and (part := client.recv(size - len(found))):
        found += part
    return found


# ---- streams ----


def test_echo(one: Callable[..., Service]) -> None:
    service = one("echo")
    with service.connect() as client:
        for text in (b"one", b"two\r\n", b"\0" * 5000):
            client.sendall(text)
            assert exactly(client, len(text)) == text
        (slot,) = service.board.slots_in_use()
        assert (slot.state, slot.pid, slot.address) == (SlotState.RUNNING, 0, HOST)
        assert slot.port == client.getsockname()[1]


def test_echo_says_all_before_it_ends(one: Callable[..., Service]) -> None:
    """A client that has said its last still gets everything."""
    service = one("echo")
    client = service.connect()
    client.sendall(b"x" * 100_000)
    client.shutdown(socket.SHUT_WR)
    assert everything(client) == b"x" * 100_000


def test_echo_of_much(one: Callable[..., Service]) -> None:
    """More than all buffers hold, while the client now sends and now reads."""
    service = one("echo")
    client = service.connect()
    client.setblocking(False)
    data = os.urandom(1 << 16) * 128
    sent, got = 0, bytearray()
    while len(got) < len(data):
        readable, writable, _ = select.select([client], [client] if sent < len(data) else [], [], PATIENCE)
        assert readable or writable
        if writable:
            sent += client.send(data[sent : sent + 100_000])
            if sent == len(data):
                client.shutdown(socket.SHUT_WR)
        if readable:
            got += client.recv(1 << 20)
    assert got == data
    client.close()


def test_echo_waits_for_a_client_that_does_not_read(one: Callable[..., Service]) -> None:
    """It stops reading, so the client's sending stops too; another client is served meanwhile."""
    service = one("echo")
    slow = service.connect(SO_SNDBUF=8192, SO_RCVBUF=8192)
    slow.setblocking(False)
    sent = 0
    while select.select([], [slow], [], 0.3)[1]:
        sent += slow.send(b"y" * 65536)
        assert sent < 100 << 20
    with service.connect() as other:
        other.sendall(b"me too")
        assert exactly(other, 6) == b"me too"
    slow.settimeout(PATIENCE)
    slow.shutdown(socket.SHUT_WR)
    assert len(everything(slow)) == sent


def test_echo_of_a_client_that_resets(one: Callable[..., Service]) -> None:
    service = one("echo")
    client = service.connect()
    client.sendall(b"x" * 10_000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_for(lambda: sum(service.board.counters(service.row).exits) == 1, "the session has ended")


def test_discard(one: Callable[..., Service]) -> None:
    service = one("discard")
    client = service.connect()
    client.sendall(b"z" * (1 << 20))
    client.shutdown(socket.SHUT_WR)
    assert everything(client) == b""


def pattern(lines: int) -> bytes:
    """RFC 864: 95 printing characters in a ring, 72 in a line, each line one further."""
    ring = "".join(map(chr, range(32, 127))) * 2
    return b"".join(f"{ring[line % 95 : line % 95 + 72]}\r\n".encode() for line in range(lines))


def test_chargen(one: Callable[..., Service]) -> None:
    service = one("chargen")
    wanted = pattern(10_000)
    with service.connect() as client:
        client.sendall(b"it does not listen")
        assert exactly(client, len(wanted)) == wanted


def test_chargen_waits_for_its_client_and_sees_it_go(one: Callable[..., Service]) -> None:
    service = one("chargen")
    client = service.connect(SO_RCVBUF=8192)
    assert client.recv(100)
    wait_for(lambda: service.board.live == 1, "it runs")
    client.close()
    wait_for(lambda: service.board.live == 0, "it has ended")


@pytest.mark.parametrize("dgram", [False, True])
def test_daytime(one: Callable[..., Service], dgram: bool) -> None:
    service = one("daytime", dgram)
    before = int(time.time())
    said = (service.ask() if dgram else everything(service.connect())).decode()
    assert said.endswith("\r\n")
    stamp, _, zone = said.strip().rpartition(" ")
    assert zone == time.strftime("%Z")
    seconds = time.mktime(time.strptime(stamp, "%d %b %Y %H:%M:%S"))
    assert before <= seconds <= time.time()


@pytest.mark.parametrize("dgram", [False, True])
def test_time(one: Callable[..., Service], dgram: bool) -> None:
    """RFC 868: 32 bits, network order, seconds since 1900."""
    service = one("time", dgram)
    before = int(time.time())
    said = service.ask(b"") if dgram else everything(service.connect())
    (seconds,) = struct.unpack("!I", said)
    assert before <= seconds - EPOCH_1900 <= time.time()


def test_records_and_counts_of_a_session(one: Callable[..., Service]) -> None:
    service = one("discard")
    service.connect().close()
    wait_for(lambda: service.board.depth() == 2, "both records are there")
    begin, finish = service.board.take_records()
    assert (begin.kind, finish.kind) == (RecordKind.START, RecordKind.EXIT)
    assert (begin.address, finish.address, finish.value, finish.signalled) == (HOST, HOST, 0, False)
    counters = service.board.counters(service.row)
    assert (counters.accepted, counters.exits[Status.SUCCESS], sum(counters.session)) == (1, 1, 1)
    assert sum(map(sum, counters.latency)) == 0  # nothing was started


def test_limits_hold_for_sessions(one: Callable[..., Service]) -> None:
    service = one("echo", instances=1)
    with service.connect() as first:
        first.sendall(b"1")
        assert first.recv(1) == b"1"
        assert everything(service.connect()) == b""
    assert service.board.counters(service.row).rejected[Verdict.INSTANCES] == 1


def test_a_retired_relay_finishes_its_sessions(relayed: Relayed) -> None:
    service = relayed.add("echo")
    with running(relayed.main) as pid:
        client = service.connect()
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        os.write(relayed.control, RETIREMENT)
        service.socket.close()  # the last descriptor of the listener once the relay has given up its own

        def refused() -> bool:
            try:
                socket.create_connection(client.getpeername(), PATIENCE).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_for(refused, "nobody listens any more")
        client.sendall(b"2")
        assert client.recv(1) == b"2"
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        client.close()
        assert reap(pid) == 0
    assert relayed.board.live == 0


def test_an_order_that_is_none_of_its_own_means_nothing(relayed: Relayed, one: Callable[..., Service]) -> None:
    service = one("daytime")
    os.write(relayed.control, RENEWAL)
    wait_for(lambda: not select.select([relayed.reader], [], [], 0)[0], "the order has been read")
    with service.connect() as client:
        assert everything(client)


def test_a_relay_without_its_supervisor_leaves(relayed: Relayed) -> None:
    service = relayed.add("chargen")
    with running(relayed.main) as pid:
        client = service.connect()
        assert client.recv(10)
        os.close(relayed.control)
        relayed.control = -1
        assert reap(pid) == 0
        client.close()


# ---- datagrams ----


@pytest.mark.parametrize("size", [0, 1, 512, 1400, 60_000])
def test_echo_of_datagrams(one: Callable[..., Service], size: int) -> None:
    data = os.urandom(size)
    assert one("echo", dgram=True).ask(data) == data


def test_chargen_of_datagrams(one: Callable[..., Service]) -> None:
    """Whole lines, 512 characters at most, whatever comes."""
    service = one("chargen", dgram=True)
    for question in (b"", b"x", b"y" * 5000):
        said = service.ask(question)
        assert 0 < len(said) <= 512
        assert len(said) % 74 == 0
        assert said in pattern(95 + 7)  # it may go on where the datagram before ended


def test_discard_of_datagrams(one: Callable[..., Service]) -> None:
    service = one("discard", dgram=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(service.address)
        client.send(b"x")
        wait_for(lambda: service.board.counters(service.row).activations == 1, "it was taken")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(10)
    (record,) = service.board.take_records()
    assert (record.kind, record.address) == (RecordKind.START, HOST)


@pytest.mark.parametrize("name", ["echo", "chargen", "daytime", "time"])
def test_no_answer_to_another_built_in_service(relayed: Relayed, name: str) -> None:
    """The answer would be answered, for ever: RFC 862 and 864 leave it to the implementation not to."""
    service, other = relayed.add(name, dgram=True), relayed.add("echo", dgram=True)
    with running(relayed.main) as pid:
        other.socket.sendto(b"round and round", service.address)
        counters = relayed.board.counters
        wait_for(lambda: counters(service.row).rejected[Verdict.LOOP] == 1, "it was refused")
        assert service.ask()  # any other port is answered, and this answer comes after one to the datagram before
        assert counters(other.row).accepted == 0
        assert [r.reason for r in relayed.board.take_records() if r.kind == RecordKind.FAIL] == [Verdict.LOOP]
        os.write(relayed.control, RETIREMENT)
        assert reap(pid) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="the ports of the RFCs are root's")
@pytest.mark.parametrize("port", [7, 13, 19, 37])
def test_no_answer_to_the_ports_of_the_rfcs(one: Callable[..., Service], port: int) -> None:
    service = one("echo", dgram=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            client.bind(("127.0.0.2", port))
        except OSError:
            pytest.skip(f"port {port} is in use")
        client.sendto(b"x", service.address)
        wait_for(lambda: service.board.counters(service.row).rejected[Verdict.LOOP] == 1, "it was refused")


def test_refused_by_address(one: Callable[..., Service]) -> None:
    service = one("echo", dgram=True, ranges=Ranges([(0, 1, Verdict.ADMIT)], []))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", service.address)
        wait_for(lambda: service.board.counters(service.row).rejected[Verdict.ADDRESS] == 1, "it was refused")


def test_datagrams_above_the_rate_wait(one: Callable[..., Service]) -> None:
    """One an hour: the second stays in the kernel's queue."""
    service = one("echo", dgram=True, rate_count=1, rate_period=HOUR)
    assert service.ask(b"first") == b"first"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"second", service.address)
        assert select.select([service.socket], [], [], PATIENCE)[0]
        assert service.board.counters(service.row).accepted == 1
        assert service.board.rate_wait(service.row) > 3500
