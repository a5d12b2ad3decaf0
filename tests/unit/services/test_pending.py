"""Who is in a listening socket's queue: those that connected and were not accepted, and nobody of another socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastinetd.services import pending as module
from fastinetd.services.pending import pending_clients
from fastinetd.system.listen_queues import Unanswered
from support.proc import wait_for

FAMILIES = {"ipv4": (socket.AF_INET, "127.0.0.1"), "ipv6": (socket.AF_INET6, "::1"), "any": (socket.AF_INET6, "::")}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def clients(stack: ExitStack, listener: socket.socket, count: int) -> list[socket.socket]:
    host = "127.0.0.1" if listener.getsockname()[0] == "::" else listener.getsockname()[0]
    return [stack.enter_context(socket.create_connection((host, listener.getsockname()[1]))) for _ in range(count)]


@pytest.mark.parametrize("kernel", ["diag", "no diag"])
@pytest.mark.parametrize("family", FAMILIES)
def test_tcp(stack: ExitStack, family: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "no diag":
        def refuse(request: bytes) -> Iterator[bytes]:
            raise Unanswered("refused")

        monkeypatch.setattr(module, "dump_sockets", refuse)
    listener = stack.enter_context(socket.socket(FAMILIES[family][0]))
    try:
        listener.bind((FAMILIES[family][1], 0))
    except OSError as missing:
        pytest.skip(f"no {family} here: {missing}")
    listener.listen()
    assert pending_clients(listener) == frozenset()
    first, *_ = clients(stack, listener, 3)
    wait_for(lambda: len(pending_clients(listener) or ()) == 3, "three are there")
    before = pending_clients(listener)
    first.close()  # who has gone has not been accepted either
    assert before is not None and before == pending_clients(listener)
    accepted = stack.enter_context(listener.accept()[0])
    after = pending_clients(listener)
    assert after is not None and after < before and len(after) == 2
    assert accepted.fileno() >= 0


def test_the_same_port_of_another_address(stack: ExitStack) -> None:
    one, other = (stack.enter_context(socket.socket()) for _ in range(2))
    one.bind(("127.0.0.1", 0))
    other.bind(("127.0.0.2", one.getsockname()[1]))
    for listener in (one, other):
        listener.listen()
    clients(stack, other, 2)
    wait_for(lambda: len(pending_clients(other) or ()) == 2, "two are there")
    assert pending_clients(one) == frozenset()


def test_unix(stack: ExitStack, tmp_path: Path) -> None:
    listeners = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
    for number, listener in enumerate(listeners):
        listener.bind(str(tmp_path / str(number)))
        listener.listen()
    held = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
    for each in held:
        each.connect(str(tmp_path / "0"))
    before = pending_clients(listeners[0])
    assert before is not None and len(before) == 2
    assert pending_clients(listeners[1]) == frozenset()
    stack.enter_context(listeners[0].accept()[0])
    after = pending_clients(listeners[0])
    assert after is not None and after < before


def test_what_is_no_listener(stack: ExitStack) -> None:
    plain = stack.enter_context(socket.socket())
    plain.close()
    assert pending_clients(plain) is None
