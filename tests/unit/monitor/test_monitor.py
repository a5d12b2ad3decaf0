"""The monitor: what it serves, whom it waits for (nobody), and how it ends; over real sockets."""

import contextlib
import gzip
import os
import random
import signal
import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastinetd.core.board import Board
from fastinetd.monitor import monitor
from fastinetd.monitor.metrics import ServiceInfo
from support.clients import read_all
from support.monitored import PATIENCE, REQUEST, Start, http_client, receive_answer

NOBODY = 65534


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


@pytest.mark.parametrize("request_bytes", [
    b"GET /-/healthy HTTP/1.0\r\n\r\n", b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
])  # fmt: skip
def test_a_client_that_sends_nothing_more_is_not_waited_for(request_bytes: bytes, start: Start) -> None:
    """When it has the whole answer its connection is closed already: nothing is left of a scrape."""
    with start().connect() as client:
        client.sendall(request_bytes)
        while client.recv(4096):
            pass
        client.sendall(b"more")
        with pytest.raises(BrokenPipeError):  # the other end has answered with a reset
            client.sendall(b"more")


@pytest.mark.parametrize("sent_first", [0, 1, 4])
def test_a_client_with_a_body_gets_the_whole_answer(sent_first: int, start: Start) -> None:
    """Though its body is read no more: a connection that was closed before it comes would be reset."""
    with start().connect() as client:
        body = b"body"
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
                       + body[:sent_first])
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        client.sendall(body[sent_first:])
        assert read_all(client).endswith(b"healthy\n")


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
