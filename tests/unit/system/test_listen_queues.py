"""Accept-queue lengths: real listening sockets with clients that nobody accepts, and messages of every shape.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinetd.system import listen_queues as queues

NOBODY = 65534


def inode(listener: socket.socket) -> int:
    return os.fstat(listener.fileno()).st_ino


@contextlib.contextmanager
def queued(family: int, address: tuple[str, int] | str, clients: int) -> Iterator[socket.socket]:
    """A listening socket, and clients in its queue."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind(address)
        listener.listen(32)
        for _ in range(clients):
            client = stack.enter_context(socket.socket(family))
            client.connect(listener.getsockname())
        yield listener


def ipv6_address() -> tuple[str, int]:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    return ("::1", 0)


@pytest.mark.parametrize("clients", [0, 1, 5])
def test_tcp_clients_that_wait_are_counted(clients: int) -> None:
    with queued(socket.AF_INET, ("127.0.0.1", 0), clients) as listener:
        assert queues.read_queues()[inode(listener)] == clients


def test_tcp_clients_over_ipv6_are_counted() -> None:
    with queued(socket.AF_INET6, ipv6_address(), 3) as listener:
        assert queues.read_queues()[inode(listener)] == 3


@pytest.mark.parametrize("abstract", [True, False])
def test_unix_clients_are_counted(abstract: bool, tmp_path: Path) -> None:
    path = f"\0fastinetd-test-{os.getpid()}" if abstract else str(tmp_path / "socket")
    with queued(socket.AF_UNIX, path, 4) as listener:
        assert queues.read_queues()[inode(listener)] == 4


def test_an_accepted_client_is_not_in_the_queue() -> None:
    with queued(socket.AF_INET, ("127.0.0.1", 0), 2) as listener:
        accepted, _ = listener.accept()
        with accepted:
            assert queues.read_queues()[inode(listener)] == 1


def test_sockets_that_do_not_listen_are_left_out() -> None:
    with queued(socket.AF_INET, ("127.0.0.1", 0), 1) as listener:
        accepted, _ = listener.accept()
        with accepted:
            assert inode(accepted) not in queues.read_queues()


def test_many_listeners_fill_several_messages() -> None:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(queued(socket.AF_INET, ("127.0.0.1", 0), 0)) for _ in range(600)]
        lengths = queues.read_queues()
        assert [lengths[inode(listener)] for listener in listeners] == [0] * len(listeners)


def test_no_privilege_is_needed() -> None:
    if os.getuid() != 0:
        pytest.skip("already without privileges")
    with queued(socket.AF_INET, ("127.0.0.1", 0), 2) as tcp, queued(socket.AF_UNIX, f"\0q{os.getpid()}", 3) as unix:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                lengths = queues.read_queues()
                status = 0 if (lengths[inode(tcp)], lengths[inode(unix)]) == (2, 3) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_reading_leaves_no_descriptor_behind() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        queues.read_queues()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# ---- where the kernel cannot be asked ----


@pytest.mark.parametrize("fault", [OSError("no such family"), queues.Unanswered("refused"), TimeoutError()])
def test_proc_is_read_when_the_kernel_does_not_answer(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered(request: bytes) -> None:
        raise fault

    monkeypatch.setattr(queues, "dump_sockets", unanswered)
    with queued(socket.AF_INET, ("127.0.0.1", 0), 5) as tcp, queued(socket.AF_UNIX, f"\0p{os.getpid()}", 2) as unix:
        lengths = queues.read_queues()
        assert lengths[inode(tcp)] == 5
        assert inode(unix) not in lengths


def test_without_any_source_the_answer_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(queues, "NETLINK_SOCK_DIAG", 31)  # no such netlink family
    assert queues.tcp_lengths(socket.AF_INET, tmp_path / "missing") == {}
    assert queues.unix_lengths() == {}


def test_a_refused_dump_is_told() -> None:
    request = queues.INET_REQUEST.pack(255, socket.IPPROTO_TCP, 0, 1 << queues.TCP_LISTEN)
    with pytest.raises((queues.Unanswered, OSError)):
        list(queues.dump_sockets(request))


def test_proc_net_tcp_and_netlink_agree() -> None:
    with queued(socket.AF_INET, ("127.0.0.1", 0), 3) as listener:
        assert queues.proc_lengths(Path("/proc/net/tcp").read_bytes())[inode(listener)] == 3


TABLE = b"""\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:0000001F 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:0016 0100007F:E1A2 01 00000000:00000007 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: 00000000:0017 00000000:0000 0A 00000000:zz 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
   3: 00000000:0018 00000000:0000 0A 00000000
"""


def test_proc_lines_of_another_shape_are_skipped() -> None:
    assert queues.proc_lengths(TABLE) == {4711: 31}


# ---- messages ----


def inet_body(state: int, queue: int, node: int) -> bytes:
    return queues.INET_ANSWER.pack(socket.AF_INET, state, queue, 128, 0, node)


def unix_body(node: int, *attributes: bytes, state: int = queues.TCP_LISTEN) -> bytes:
    return queues.UNIX_ANSWER.pack(socket.AF_UNIX, 1, state, node) + b"".join(attributes)


def attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(padding)


def message(kind: int, body: bytes) -> bytes:
    return queues.HEADER.pack(queues.HEADER.size + len(body), kind, 0, 1, 0) + body


def test_structures_have_the_kernels_sizes() -> None:
    sizes = [s.size for s in (queues.HEADER, queues.INET_REQUEST, queues.UNIX_REQUEST, queues.INET_ANSWER)]
    assert sizes == [16, 56, 24, 72]
    assert queues.UNIX_ANSWER.size == 16


def test_messages_are_taken_apart() -> None:
    first, second = message(20, b"abcde") + bytes(3), message(3, b"")
    assert list(queues.split_messages(first + second)) == [(20, b"abcde"), (3, b"")]


def test_a_message_cut_off_ends_the_datagram() -> None:
    whole = message(20, b"abcd")
    assert list(queues.split_messages(whole + message(20, b"abcdefgh")[:-1])) == [(20, b"abcd")]
    assert list(queues.split_messages(struct.pack("=LHHLL", 3, 20, 0, 0, 0))) == []


def test_inet_lengths() -> None:
    body = inet_body(queues.TCP_LISTEN, 5, 77)
    assert queues.inet_length(body) == (77, 5)
    assert queues.inet_length(body + b"attributes") == (77, 5)
    assert queues.inet_length(body[:-1]) is None
    assert queues.inet_length(inet_body(1, 5, 77)) is None


def test_unix_lengths() -> None:
    queue = attribute(queues.UNIX_DIAG_RQLEN, struct.pack("=LL", 6, 128))
    assert queues.unix_length(unix_body(9, queue)) == (9, 6)
    assert queues.unix_length(unix_body(9, attribute(0, b"/a/name"), queue)) == (9, 6)
    assert queues.unix_length(unix_body(9, queue, state=1)) is None
    assert queues.unix_length(unix_body(9, queue)[:-1]) is None
    assert queues.unix_length(unix_body(9, attribute(0, b"name"))) is None
    assert queues.unix_length(unix_body(9, struct.pack("=HH", 0, 4))) is None
    assert queues.unix_length(unix_body(9)[:-1]) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    for _, body in queues.split_messages(data):
        queues.inet_length(body)
        queues.unix_length(body)
    queues.inet_length(data)
    queues.unix_length(data)
    queues.proc_lengths(data)


@given(st.binary(max_size=200))
def test_any_attributes_are_survived(data: bytes) -> None:
    found = queues.unix_length(unix_body(9, data))
    assert found is None or found[0] == 9
