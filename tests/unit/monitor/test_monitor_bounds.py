"""What clients of the monitor may cost: time, connections, memory, descriptors."""

import contextlib
import errno
import os
import select
import socket
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastinetd.monitor import monitor
from fastinetd.monitor.http import plain_answer
from fastinetd.monitor.monitor import Bounds
from support.clients import read_all
from support.monitored import PATIENCE, REQUEST, Start, receive_answer


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
