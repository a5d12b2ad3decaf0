"""Workers, their handlers in Python, and `connections()`; the daemon is played by support.worker_peer."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from support.clients import read_all
from support.core import reap
from support.proc import wait_for
from support.worker_kit import CANNOT, KINDS, Kit
from support.worker_peer import VARIABLES, WorkerPeer


@pytest.fixture(params=KINDS)
def worker(request: pytest.FixtureRequest, kit: Kit) -> Iterator[WorkerPeer]:
    with kit.start(request.param) as made:
        assert made.status() == 0
        yield made


ENDINGS = [
    ("return None", 0, ""),
    ("return 0", 0, ""),
    ("return 255", 255, ""),
    ("raise SystemExit", 0, ""),
    ("raise SystemExit(7)", 7, ""),
    ("raise SystemExit(-1)", 255, ""),
    ("return 256", 1, "returned 256: expected None or a status from 0 to 255"),
    ("return -1", 1, "returned -1: expected"),
    ("return 'fine'", 1, "returned something of type str: expected"),
    ("return 10**9999", 1, "returned something of type int: expected"),
    ("raise SystemExit('no')", 1, "SystemExit: no"),
    ("raise ValueError('bad')", 1, "ValueError: bad"),
    ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
    ("raise GeneratorExit", 1, "GeneratorExit"),
    ("raise asyncio.CancelledError", 1, "CancelledError"),
    ("raise OSError(24, 'no more')", 1, "OSError: [Errno 24] no more"),
]


def test_every_way_to_end(worker: WorkerPeer, kit: Kit) -> None:
    for body, status, said in ENDINGS:
        before = len(kit.logged())
        assert worker.ask(body.encode()) == b"", body
        assert worker.status() == status, body
        new = kit.logged()[before:]
        assert bool(new) == bool(said), body
        if said:
            assert said in new[0] and new[0].endswith("(client 192.0.2.7 4711)"), new
            assert new[0].startswith("handler worker_handlers:"), new
    assert worker.end() == 0
    assert kit.syslog() == [], "what the daemon has heard need not be said twice"


def test_what_went_wrong_is_told_with_its_place_and_without_control_characters(worker: WorkerPeer, kit: Kit) -> None:
    worker.ask(b"raise ValueError('one\\ntwo\\x1b[2J\\0\\udc80')")
    assert worker.status() == 1
    lines = kit.logged()
    assert any("Traceback (most recent call last):" in line for line in lines)
    assert any("in body" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    assert any("two\\x1b[2J\\x00" in line for line in lines)


def test_a_client_cannot_flood_the_log(worker: WorkerPeer, kit: Kit) -> None:
    worker.ask(b"raise ValueError('x' * 100_000 + 100_000 * 'a\\n')")
    assert worker.status() == 1
    lines = kit.logged()
    assert len(lines) <= 102 and max(map(len, lines)) < 2010 and sum(len(line) + 1 for line in lines) <= 8001
    assert "ValueError: xxx" in lines[0] and any("in body" in line for line in lines)
    worker.ask(b"class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd")
    assert worker.status() == 1
    assert "Odd: its text cannot be had" in kit.logged()[len(lines)]


def test_peer(worker: WorkerPeer) -> None:
    told = worker.ask(b"sock.sendall(repr(peer[:5]).encode()); sock.sendall(repr(dict(peer.variables)).encode())")
    assert told.decode() == repr(("192.0.2.7", 4711, "192.0.2.1", 7000, "TCP")) + repr(VARIABLES)
    worker.status()
    unix = {"IPCREMOTEEUID": "7", "IPCREMOTEEGID": "8", "PROTO": "IPC"}
    told = worker.ask(b"sock.sendall(repr(peer).encode())", unix)
    assert told.decode() == (
        "Peer(host='', port=0, local_host='', local_port=0, protocol='IPC', "
        "variables={'IPCREMOTEEUID': '7', 'IPCREMOTEEGID': '8', 'PROTO': 'IPC'})"
    )
    worker.status()
    assert worker.ask(b"sock.sendall(repr(peer.variables).encode())", {}) == b"{}"


def test_the_socket_is_blocking_and_of_the_right_kind(worker: WorkerPeer) -> None:
    body = b"sock.sendall(repr((sock.gettimeout(), sock.family.name, sock.type.name, sock.proto,"
    body += b"os.get_inheritable(sock.fileno()), os.get_blocking(sock.fileno()))).encode())"
    assert worker.ask(body) == b"(None, 'AF_INET', 'SOCK_STREAM', 6, False, True)"
    worker.status()
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with client:
        worker.hand(server, {"PROTO": "IPC"})
        client.send(body + b"\0")
        assert client.recv(1000) == b"(None, 'AF_UNIX', 'SOCK_SEQPACKET', 0, False, True)"


@pytest.mark.parametrize("kind", KINDS)
def test_variables_are_gone_afterwards(kit: Kit, kind: str) -> None:
    """From os.environ and from what children inherit; a variable of the service's own comes back."""
    show = b"import subprocess; sock.sendall(repr(sorted(os.environ.items())).encode() + b'|');"
    show += b"sock.sendall(subprocess.check_output(['/usr/bin/env']))"
    with kit.start(kind, REMOTE_HOST="constant", STAYS="yes") as worker:
        worker.status()
        bare = worker.ask(show, {})
        assert b"('REMOTE_HOST', 'constant')" in bare and b"\nREMOTE_HOST=constant\n" in bare
        assert b"FASTINETD_WORKER" not in bare and b"TCPREMOTEIP" not in bare
        worker.status()
        full = worker.ask(show)
        assert b"('REMOTE_HOST', '192.0.2.7')" in full and b"TCPREMOTEIP=192.0.2.7\n" in full
        worker.status()
        worker.ask(b"del os.environ['TCPREMOTEIP']; os.environ['PROTO'] = 'mine'")
        assert worker.status() == 0
        assert worker.ask(show, {}) == bare


def test_context_variables_are_the_connections_own(worker: WorkerPeer) -> None:
    worker.ask(b"import contextvars; kept.append(contextvars.ContextVar('v', default='none')); kept[0].set('first')")
    worker.status()
    assert worker.ask(b"sock.sendall(kept[0].get().encode())") == b"none"


def test_the_socket_is_closed_whoever_keeps_it(worker: WorkerPeer) -> None:
    worker.ask(b"pass")
    worker.status()
    before = worker.descriptors()
    for _ in range(3):
        with worker.connect() as client:
            client.sendall(b"kept.extend([sock, sock.makefile('rwb')]); sock.sendall(b'done')\0")
            assert read_all(client) == b"done"
            assert worker.status() == 0
    assert worker.descriptors() == before
    with worker.connect() as client:
        client.sendall(b"kept.append(os.dup(sock.fileno()))\0")
        assert read_all(client) == b""


def test_what_is_buffered_is_sent_even_if_the_handler_fails(worker: WorkerPeer) -> None:
    for end, status in ((b"raise ValueError", 1), (b"raise SystemExit(2)", 2), (b"return 3", 3)):
        assert worker.ask(b"file = sock.makefile('wb'); file.write(b'data'); " + end) == b"data"
        assert worker.status() == status


def test_a_forked_child_that_returns_is_no_second_worker(worker: WorkerPeer) -> None:
    body = b"pid = os.fork()\nif pid == 0: return 3\n"
    body += b"sock.sendall(b'child %d' % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); return 4"
    for _ in range(2):
        assert worker.ask(body) == b"child 3"
        assert worker.status() == 4


def test_nothing_is_left_of_many_connections(worker: WorkerPeer) -> None:
    worker.ask(b"sock.sendall(b'warm')")
    worker.status()
    before = worker.descriptors()
    for number in range(1000):
        assert worker.ask(b"sock.sendall(b'%d'); return %d" % (number, number % 256)) == b"%d" % number
        assert worker.status() == number % 256
    for body in (b"raise ValueError", b"sock.close()", b"os.close(sock.detach())"):
        worker.ask(body)
        assert worker.status() == (body == b"raise ValueError")
    assert worker.descriptors() == before


def test_a_client_that_is_gone(worker: WorkerPeer) -> None:
    client = worker.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.sendall(b"kept.append(sock.recv(1))\0")
    client.close()  # a reset, before the handler has read its body or afterwards
    assert worker.status() in (0, 1)
    assert worker.ask(b"sock.sendall(b'on')") == b"on"


def test_end_of_file_is_the_end(worker: WorkerPeer) -> None:
    assert worker.end() == 0


def test_end_of_file_during_a_connection(worker: WorkerPeer) -> None:
    """The connection is served to its end, and its status told."""
    with worker.connect() as client:
        client.sendall(b"sock.sendall(b'begun'); n = sock.recv(9); sock.sendall(n); return 9\0")
        assert client.recv(5) == b"begun"
        worker.socket.shutdown(socket.SHUT_WR)
        client.sendall(b"more")
        assert read_all(client) == b"more"
    assert worker.status() == 9
    assert reap(worker.pid) == 0


def test_a_daemon_that_is_gone(worker: WorkerPeer) -> None:
    """Its last status can be told to nobody; SIGPIPE must not end it, whatever the handler has made of that."""
    with worker.connect() as client:
        client.sendall(b"import signal; signal.signal(13, signal.SIG_DFL); sock.sendall(b'x'); sock.recv(1)\0")
        assert client.recv(1) == b"x"
        worker.socket.close()
        client.sendall(b"y")
        assert read_all(client) == b""
    assert reap(worker.pid) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_default(worker: WorkerPeer, number: int) -> None:
    with worker.connect() as client:
        client.sendall(b"sock.sendall(b'x'); sock.recv(1)\0")
        assert client.recv(1) == b"x"
        os.kill(worker.pid, number)
        assert reap(worker.pid) == -number
        assert read_all(client) == b""


def test_a_connection_without_its_descriptor(worker: WorkerPeer, kit: Kit) -> None:
    worker.socket.send(b"REMOTE_HOST=192.0.2.7\0")
    assert reap(worker.pid) == 1
    assert "no descriptor came with a connection: raise rlimit_files" in kit.logged()[0]


@pytest.mark.parametrize(
    ("handler", "answer"),
    [("Group().method", None), ("group.method", b"method"), ("group", b"object"), ("NOT_CALLABLE", None)],
)
def test_what_can_be_a_handler(kit: Kit, handler: str, answer: bytes | None) -> None:
    with kit.start(handler) as worker:
        if answer is None:
            assert worker.status() is None
            assert reap(worker.pid) == CANNOT
        else:
            assert worker.status() == 0
            assert worker.ask() == answer


def test_a_function_that_forgets_to_await(kit: Kit) -> None:
    with kit.start("forgets") as worker:
        worker.status()
        assert worker.ask(b"return 0") == b""
        assert worker.status() == 1
        assert "write the handler itself with async def" in kit.logged()[0]


class TestLoop:
    """What only coroutine functions have."""

    @pytest.fixture
    def worker(self, kit: Kit) -> Iterator[WorkerPeer]:
        with kit.start("coroutine") as made:
            assert made.status() == 0
            yield made

    def test_one_loop_that_never_stops(self, worker: WorkerPeer, kit: Kit) -> None:
        worker.ask(b"kept.append(asyncio.get_running_loop())")
        worker.status()
        assert worker.ask(b"sock.sendall(b'%d' % (kept[0] is asyncio.get_running_loop()))") == b"1"
        worker.status()
        flag = kit.folder / "flag"
        worker.ask(b"asyncio.get_running_loop().call_later(0.05, lambda: open(%r, 'w').close())" % str(flag).encode())
        wait_for(flag.exists, "the loop runs between connections")

    STREAMS = b"r, w = await asyncio.open_connection(sock=sock); kept.append(w); w.write(b'hello'); await w.drain()\n"

    @pytest.mark.parametrize("end", [b"w.close(); await w.wait_closed()", b"w.close()", b"pass", b"raise ValueError"])
    def test_streams(self, worker: WorkerPeer, end: bytes) -> None:
        """Closed or forgotten: the next connection, which has the same number, has nothing to do with it."""
        worker.ask(b"pass")
        worker.status()
        before = worker.descriptors()
        for _ in range(20):
            assert worker.ask(self.STREAMS + end) == b"hello"
            assert worker.status() == (end == b"raise ValueError")
        assert worker.descriptors() == before

    def test_a_task_left_waiting_for_its_socket(self, worker: WorkerPeer) -> None:
        left = b"sock.setblocking(False); reading = asyncio.get_running_loop().sock_recv(sock, 9)\n"
        left += b"kept.append(asyncio.ensure_future(reading))\n"
        for _ in range(5):
            assert worker.ask(left + b"await asyncio.sleep(0)") == b""
            assert worker.status() == 0
        with worker.connect() as client:
            client.sendall(b"sock.sendall(b'x'); await asyncio.sleep(0); sock.sendall(sock.recv(9))\0")
            assert client.recv(1) == b"x"
            client.sendall(b"mine")
            assert read_all(client) == b"mine"
