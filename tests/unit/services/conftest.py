"""Fixtures of the tests of listeners and wait services."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fastinetd.services.wait import WaitSocket
from support.sharing import Send


@pytest.fixture
def send(client: socket.socket) -> Send:
    def sent(machine: WaitSocket, *texts: bytes) -> None:
        for text in texts:
            client.sendto(text, machine.sock.getsockname())

    return sent


@pytest.fixture
def in_the_way() -> Iterator[socket.socket]:
    """Somebody else's listener."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other
