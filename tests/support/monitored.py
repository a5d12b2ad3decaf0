"""A monitor in a thread, and its clients."""

import contextlib
import http.client
import os
import socket
import threading
from collections.abc import Callable

from fastinetd.core.board import Board
from fastinetd.monitor import monitor
from fastinetd.monitor.metrics import ServiceInfo
from fastinetd.monitor.monitor import Bounds

PATIENCE = 10


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
