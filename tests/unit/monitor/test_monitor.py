"""The monitor: what it serves, whom it waits for (nobody), and how it ends; over real sockets."""

import contextlib
import errno
import gzip
import http.client
import os
import random
import select
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastinetd.cli.options import parse_address
from fastinetd.core.board import Board
from fastinetd.monitor import monitor
from fastinetd.monitor.http import plain_answer
from fastinetd.monitor.metrics import ServiceInfo
from fastinetd.monitor.monitor import Bounds
from support.clients import read_all

PATIENCE = 10
NOBODY = 65534


def http_client(address: tuple[str, int]) -> http.client.HTTPConnection:
    host, port = address
    return http.client.HTTPConnection(host, port, timeout=PATIENCE)


class Monitor:
    """A monitor in a thread, on a port of its own."""

    def __init__(self, bounds: Bounds | None = None, services: int = 2) -> None:
        self.board = Board.create(max(services, 1), 64, 2)
        for _ in range(services):
            self.board.row_claim()
        self.status(ready=True)
        self.services = [ServiceInfo(row, f"service-{row}", True) for row in range(services)]
        listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # a page does not fit in
        self.address: tuple[str, int] = listener.getsockname()
        self.listener_fd = listener.detach()
        self.control, self.far_control = os.pipe2(os.O_CLOEXEC)
        self.thread = threading.Thread(target=self.run, args=(bounds,))
        self.thread.start()

    def run(self, bounds: Bounds | None) -> None:
        readable = Board.open(self.board.fd, False)
        monitor.run(self.listener_fd, self.control, readable, self.services, version="1.2.3", bounds=bounds)

    def status(self, ready: bool) -> None:
        self.board.set_status(supervisor=os.getpid(), descriptors=9, ready=ready, reload_ok=True, reload_time=1,
                              generation=1)  # fmt: skip

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        with contextlib.closing(http_client(self.address)) as connection:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def end(self) -> None:
        if self.far_control >= 0:
            os.close(self.far_control)
            self.far_control = -1
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "the monitor did not end"

    def close(self) -> None:
        self.end()
        os.close(self.control)
        fd = self.board.fd
        self.board.unmap()
        os.close(fd)


Start = Callable[..., Monitor]


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as stack:
        before = descriptors()

        def started(**bounds: Any) -> Monitor:
            services = int(bounds.pop("services", 2))
            made = Monitor(Bounds(**bounds) if bounds else None, services)
            stack.callback(made.close)
            return made

        yield started
        stack.close()
        assert descriptors() == before


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def receive_answer(client: socket.socket) -> bytes:
    """One answer with its body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(1)
    head = received.lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += client.recv(length - len(body))
    return received + body


REQUEST = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"


# ---- what there is to see ----


def test_the_metrics_page(start: Start) -> None:
    page = start().get("/metrics")
    assert page[0] == 200
    names = {family.name for family in text_string_to_metric_families(page[1].decode())}
    assert {"fastinetd_connections_accepted", "fastinetd_children", "process_open_fds"} <= names


def test_urllib_reads_the_page(start: Start) -> None:
    host, port = start().address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{host}:{port}/metrics?name=x", timeout=PATIENCE) as answer:
        assert answer.headers.get_content_type() == "text/plain"
        assert b"fastinetd_children" in answer.read()


def test_a_packed_page_in_openmetrics(start: Start) -> None:
    with contextlib.closing(http_client(start().address)) as connection:
        headers = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        assert answer.getheader("Content-Type", "").startswith("application/openmetrics-text")
        assert gzip.decompress(answer.read()).endswith(b"# EOF\n")


def test_health(start: Start) -> None:
    served = start()
    assert served.get("/-/healthy") == (200, b"healthy\n")
    assert served.get("/-/ready") == (200, b"ready\n")
    served.status(ready=False)
    assert served.get("/-/ready")[0] == 503
    assert served.get("/-/healthy")[0] == 200
    served.status(ready=True)
    assert served.get("/-/ready")[0] == 200


def test_the_landing_page_links_to_the_others(start: Start) -> None:
    served = start()
    status, body = served.get("/")
    assert status == 200
    assert b"fastinetd 1.2.3" in body
    for path in ("/metrics", "/-/healthy", "/-/ready"):
        assert f'href="{path}"'.encode() in body


@pytest.mark.parametrize("path", ["/no-such-page", "/metrics/", "/-/quit", "*", "/%2d/healthy"])
def test_other_pages_are_not_found(path: str, start: Start) -> None:
    assert start().get(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "BREW"])
def test_other_methods_are_refused(method: str, start: Start) -> None:
    with contextlib.closing(http_client(start().address)) as connection:
        connection.request(method, "/metrics", body=b"x" * 5000 if method == "POST" else None)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD")
        answer.read()


@pytest.mark.parametrize("path", ["/metrics", "/-/ready", "/", "/none"])
def test_head_has_the_head_of_get(path: str, start: Start) -> None:
    served = start()
    with served.connect() as client:
        client.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = read_all(client)
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length: 0" not in head
    assert head.startswith(f"HTTP/1.1 {served.get(path)[0]} ".encode())


def test_a_fault_in_the_page_is_an_answer(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("internals")

    monkeypatch.setattr(monitor, "make_page", broken)
    served = start()
    status, body = served.get("/metrics")
    assert (status, b"internals" in body) == (500, False)
    assert served.get("/-/healthy")[0] == 200


# ---- connections ----


def test_a_connection_carries_many_requests(start: Start) -> None:
    with start().connect() as client:
        for _ in range(50):
            client.sendall(REQUEST)
            answer = receive_answer(client)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"Connection: keep-alive" in answer


def test_requests_sent_ahead_are_answered_in_order(start: Start) -> None:
    with start().connect() as client:
        client.sendall(b"\r\n".join([REQUEST, REQUEST.replace(b"healthy", b"nothing"), REQUEST]))
        codes = [receive_answer(client)[9:12] for _ in range(3)]
    assert codes == [b"200", b"404", b"200"]


def test_old_clients_are_served_and_closed(start: Start) -> None:
    with start().connect() as client:
        client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        answer = read_all(client)
    assert answer.endswith(b"\r\n\r\nhealthy\n")
    assert b"Connection: close" in answer


def test_a_client_that_sends_its_end_early_is_answered(start: Start) -> None:
    with start().connect() as client:
        client.sendall(REQUEST)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"healthy\n")


def test_a_request_byte_by_byte(start: Start) -> None:
    with start().connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in REQUEST:
            client.sendall(bytes([byte]))
        assert receive_answer(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /-/healthy HTTP/1.1\r\n\r\n", 400),
        (b"GET  /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"y" * 9000, 431),
    ],
)
def test_bad_requests_are_told_so_and_closed(request_bytes: bytes, status: int, start: Start) -> None:
    with start().connect() as client:
        client.sendall(request_bytes)
        assert read_all(client).startswith(f"HTTP/1.1 {status} ".encode())


def test_garbage_ends_nothing(start: Start) -> None:
    served = start()
    dice = random.Random(1)
    for _ in range(100):
        with served.connect() as client:
            pieces = [dice.randbytes(dice.randrange(200)), REQUEST, b"\r\n\r\n", b"GET / HTTP/1.1\r\n"]
            dice.shuffle(pieces)
            client.sendall(b"".join(pieces))
            if dice.random() < 0.5:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
    assert served.get("/-/healthy")[0] == 200


def test_a_client_that_resets_while_a_page_is_sent(start: Start) -> None:
    served = start(services=300)
    for _ in range(5):
        with served.connect() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert served.get("/-/healthy")[0] == 200


# ---- slow clients ----


def test_silent_clients_delay_nobody(start: Start) -> None:
    served = start()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(served.connect()) for _ in range(100)]
        begun = time.monotonic()
        assert served.get("/metrics")[0] == 200
        assert time.monotonic() - begun < 5
        assert select.select(silent, [], [], 0)[0] == []


def test_beyond_the_bound_the_oldest_idle_client_goes(start: Start) -> None:
    served = start(connections=5)
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(5):
            clients.append(stack.enter_context(served.connect()))
            clients[-1].sendall(REQUEST)
            receive_answer(clients[-1])
        clients[0].sendall(REQUEST)  # now the second is the oldest
        receive_answer(clients[0])
        assert served.get("/-/healthy")[0] == 200
        assert read_all(clients[1]) == b""
        clients[0].sendall(REQUEST)
        assert receive_answer(clients[0]).startswith(b"HTTP/1.1 200 ")


def test_a_silent_client_is_closed_in_time(start: Start) -> None:
    with start(head=0.05).connect() as client:
        assert read_all(client) == b""


def test_half_a_request_is_told_that_time_is_up(start: Start) -> None:
    with start(head=0.1).connect() as client:
        client.sendall(REQUEST[:20])
        assert read_all(client).startswith(b"HTTP/1.1 408 ")


def test_a_trickle_does_not_buy_time(start: Start) -> None:
    with start(head=0.2).connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while not select.select([client], [], [], 0.02)[0]:
                client.sendall(b"\r\n")
        assert time.monotonic() - begun < PATIENCE


def test_an_idle_connection_is_closed_after_its_own_time(start: Start) -> None:
    with start(idle=0.1).connect() as client:
        client.sendall(REQUEST)
        receive_answer(client)
        assert read_all(client) == b""


def test_a_client_that_does_not_read_is_closed_and_delays_nobody(start: Start) -> None:
    served = start(send=0.3, services=300)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE)
        client.connect(served.address)
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
        assert served.get("/-/healthy")[0] == 200
        poller = select.poll()
        poller.register(client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        assert poller.poll(PATIENCE * 1000), "expected the connection closed"
    assert served.get("/-/healthy")[0] == 200


def test_what_is_not_yet_sent_is_bounded(start: Start) -> None:
    served = start(unsent=1000, services=300)
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE)
            client.connect(served.address)
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(10)  # it is being answered
            clients.append(client)
        assert b"process_" not in read_all(clients[0])[-2000:]
        assert served.get("/-/healthy")[0] == 200


def test_an_idle_monitor_is_not_woken(start: Start) -> None:
    served = start()
    assert served.get("/-/healthy")[0] == 200
    path = Path(f"/proc/self/task/{served.thread.native_id}/status")

    def wakes(seconds: float) -> int:
        """How often the monitor's thread was woken meanwhile."""
        counts = []
        for pause in (seconds, 0):
            lines = path.read_text().splitlines()
            counts += [int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches")]
            select.select([], [], [], pause)
        return counts[1] - counts[0]

    end = time.monotonic() + PATIENCE
    while wakes(0.5):  # it has still to see that the client is gone
        assert time.monotonic() < end, "woken without a reason"


# ---- descriptors run out ----


class Fickle:
    """A listener whose accept fails as long as it is told to."""

    def __init__(self, listener: socket.socket, failures: int) -> None:
        self.listener, self.failures = listener, failures

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return self.listener.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self.listener, name)


def test_without_descriptors_it_pauses_and_goes_on(start: Start) -> None:
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fickle: Any = Fickle(listener, 3)
        server = monitor.Server(fickle, reader, lambda request: plain_answer(HTTPStatus.OK), Bounds(pause=0.02))
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            with socket.create_connection(listener.getsockname(), timeout=PATIENCE) as client:
                client.sendall(REQUEST)
                assert receive_answer(client).startswith(b"HTTP/1.1 200 ")
        finally:
            os.close(writer)
            thread.join(PATIENCE)
            os.close(reader)


# ---- the end ----


def test_it_ends_at_once_when_the_supervisor_is_gone(start: Start) -> None:
    served = start(retire=60)
    with served.connect() as silent, served.connect() as kept:
        kept.sendall(REQUEST)
        receive_answer(kept)
        served.end()
        assert read_all(silent) == read_all(kept) == b""
    with pytest.raises(ConnectionRefusedError):
        served.connect()


def test_a_retired_monitor_answers_who_is_there(start: Start) -> None:
    served = start(retire=60)
    with served.connect() as fresh, served.connect() as idle:
        idle.sendall(REQUEST)
        receive_answer(idle)
        fresh.sendall(REQUEST[:10])
        assert served.get("/-/healthy")[0] == 200
        os.write(served.far_control, b"r")
        assert read_all(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            served.connect()
        fresh.sendall(REQUEST[10:])
        answer = read_all(fresh)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answer
    served.thread.join(PATIENCE)
    assert not served.thread.is_alive()


def test_a_retired_monitor_does_not_wait_for_silent_clients(start: Start) -> None:
    served = start(retire=0.05)
    with served.connect() as silent:
        assert served.get("/-/healthy")[0] == 200
        os.write(served.far_control, b"r")
        assert read_all(silent) == b""
        served.thread.join(PATIENCE)
        assert not served.thread.is_alive()


def test_the_end_of_the_supervisor_cuts_retirement_short(start: Start) -> None:
    served = start(retire=60)
    with served.connect() as silent:
        assert served.get("/-/healthy")[0] == 200
        os.write(served.far_control, b"r")
        served.end()
        assert read_all(silent) == b""


def test_without_privileges_and_with_default_signals() -> None:
    """As the supervisor forks it: nobody, SIGPIPE deadly, and no file of the program readable."""
    if os.getuid() != 0:
        pytest.skip("needs root to give it up")
    board = Board.create(4, 64, 2)
    board.row_claim()
    board.set_status(supervisor=os.getpid(), descriptors=9, ready=True, reload_ok=True, reload_time=1, generation=1)
    control, far_control = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        info = ServiceInfo(0, "web", True, inodes=(os.fstat(other.fileno()).st_ino,))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(far_control)
                become_nobody()
                monitor.run(os.dup(listener.fileno()), control, Board.open(board.fd, False), [info], version="1")
                status = 0
            finally:
                os._exit(status)
        os.close(control)
        try:
            with socket.create_connection(other.getsockname()), socket.create_connection(other.getsockname()):
                connection = http_client(listener.getsockname())
                for accept in ("", "application/openmetrics-text;version=1.0.0"):
                    with contextlib.closing(connection):
                        connection.request("GET", "/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
                        text = gzip.decompress(connection.getresponse().read()).decode()
                    assert 'fastinetd_accept_queue_length{service="web"} 2.0\n' in text
                    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds"):
                        assert f"\nprocess_{name} " in text
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            with contextlib.closing(connection):
                connection.request("GET", "/-/healthy")
                assert connection.getresponse().status == 200
        finally:
            os.close(far_control)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            fd = board.fd
            board.unmap()
            os.close(fd)
    assert status == 0


def become_nobody() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


# ---- the address ----


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9100", (None, 9100)),
        ("9100", (None, 9100)),
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:9100", ("::1", 9100)),
        ("[::]:65535", ("::", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_addresses(text: str, address: tuple[str | None, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "x", "127.0.0.1", ":0", ":65536", ":-1", ":+1", ":1 ", ": 1", "::1", "::1:9100", "[::1]", "[::1]9100",
     "[1.2.3.4]:1", "[]:1", "a b:1", "http://x:1", "[::1:9100", "::1]:9100", ":\u0661", ":000009100", "1.2.3.4:x"],
)  # fmt: skip
def test_addresses_of_another_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of the form \[HOST\]:PORT") as told:
        parse_address(text)
    assert repr(text) in str(told.value)
