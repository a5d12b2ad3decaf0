"""Clients, and the ports they meet the daemon on."""

from __future__ import annotations

import errno
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from support.proc import PATIENCE

T = TypeVar("T")


def _candidates() -> Iterator[int]:
    """Ports outside the range from which the kernel takes those of clients."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    span = range(20000, min(low, 32700)) if low > 24000 else range(min(high + 1, 60000), 65500)
    start = os.getpid() * 197 % len(span)
    while True:
        yield from span[start:]
        yield from span[:start]


_ports = _candidates()


def _is_free(family: int, kind: int, port: int) -> bool:
    try:
        with socket.socket(family, kind) as s:
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind(("", port))
    except OSError as error:
        return family == socket.AF_INET6 and error.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True


def free_port() -> int:
    """A port that no socket has, for TCP and UDP, on both families; no port is given twice."""
    families, kinds = (socket.AF_INET, socket.AF_INET6), (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    return next(port for port in _ports if all(_is_free(f, k, port) for f in families for k in kinds))


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


def connect(
    port: int | str | Path, host: str = "127.0.0.1", source: str | None = None, timeout: float = PATIENCE
) -> socket.socket:
    """A connected socket; `port` may be the path of a unix socket."""
    if not isinstance(port, int):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: object = str(port)
    else:
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        address = (host, port)
    try:
        s.settimeout(timeout)
        if source is not None:
            s.bind((source, 0))
        s.connect(address)  # type: ignore[arg-type]
    except BaseException:
        s.close()
        raise
    return s


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """A TCP connection: the client's end, and the server's, which is blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = connect(listener.getsockname()[1])
        server, _ = listener.accept()
    return client, server


def read_all(s: socket.socket, timeout: float = PATIENCE) -> bytes:
    """All bytes until the other side closes; a reset ends them too. Takes the socket."""
    end = time.monotonic() + timeout
    parts = []
    with s:
        try:
            while True:
                s.settimeout(max(0.01, end - time.monotonic()))
                part = s.recv(65536)
                if not part:
                    break
                parts.append(part)
        except TimeoutError:
            so_far = b"".join(parts)[:200]
            raise AssertionError(f"no end of the answer within {timeout:g} s; so far {so_far!r}") from None
        except (ConnectionResetError, BrokenPipeError):
            pass
    return b"".join(parts)


def everything(s: socket.socket) -> bytes:
    """All bytes until the other side closes. Raises TimeoutError by the socket's own limit, and ConnectionResetError.
    Takes the socket."""
    parts = []
    with s:
        while part := s.recv(65536):
            parts.append(part)
    return b"".join(parts)


def read_line(s: socket.socket) -> bytes:
    """One line; what there is when the other side closes first."""
    line = b""
    try:
        while not line.endswith(b"\n") and (byte := s.recv(1)):
            line += byte
    except (ConnectionResetError, BrokenPipeError):
        pass
    return line


def ask(
    port: int | str | Path, send: bytes = b"", host: str = "127.0.0.1", source: str | None = None,
    timeout: float = PATIENCE,
) -> bytes:  # fmt: skip
    """Connect, send, and read to the end; b"" for a client that is turned away."""
    s = connect(port, host, source, timeout)
    try:
        if send:
            s.sendall(send)
            s.shutdown(socket.SHUT_WR)
    except OSError:
        s.close()
        return b""
    return read_all(s, timeout)


class Held:
    """A client of /bin/cat that stays: `admitted`, or turned away without a byte."""

    def __init__(self, port: int | str | Path, source: str | None = None, host: str = "127.0.0.1") -> None:
        self.socket = connect(port, host, source)
        self.admitted = self.echoes(b"first\n")
        if not self.admitted:
            self.socket.close()

    def echoes(self, text: bytes = b"once more\n") -> bool:
        try:
            self.socket.sendall(text)
        except (ConnectionResetError, BrokenPipeError):
            return False
        answer = read_line(self.socket)
        assert answer in (text, b""), answer
        return answer == text

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def datagrams(source: str = "127.0.0.1") -> socket.socket:
    """A bound UDP client."""
    s = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((source, 0))
    s.settimeout(PATIENCE)
    return s


def ask_datagram(port: int, data: bytes, source: str = "127.0.0.1", host: str = "127.0.0.1") -> bytes:
    with datagrams(source) as s:
        s.sendto(data, (host, port))
        return s.recv(65536)


def crowd(job: Callable[[int], T], count: int, at_once: int) -> list[T]:
    """job(0) to job(count - 1), so many at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(job, range(count)))


def http(port: int, path: str, timeout: float = 10.0) -> tuple[int, str]:
    """(status, text); status 0 when nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def all_in(answers: Sequence[object], *wanted: object) -> list[object]:
    """The answers that are none of the wanted ones: empty when all is well."""
    return [answer for answer in answers if answer not in wanted]
