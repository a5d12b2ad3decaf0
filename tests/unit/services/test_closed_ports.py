"""Ports that were closed for a while: nobody gets in when they listen again."""

from __future__ import annotations

import socket

import pytest

from fastinetd.services.closed_ports import _listen_again
from support.intruder import tries


class Halting(socket.socket):
    """Right before it listens again it lets a local user try to have the port."""

    got = "not asked"

    def listen(self, backlog: int = 5, /) -> None:
        self.got = tries(self.getsockname()[1])
        super().listen(backlog)


@pytest.mark.usefixtures("root")
def test_no_moment_is_left_to_others() -> None:
    with Halting() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        socket.socket.listen(sock)
        with socket.create_connection(sock.getsockname(), 10) as client, sock.accept()[0] as server:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # as an acceptor closes it
            sock.shutdown(socket.SHUT_RDWR)
            _listen_again(sock)
            assert sock.got == tries(sock.getsockname()[1]) == ""
            server.sendall(b"goes on")
            assert client.recv(100) == b"goes on"
            with socket.create_connection(sock.getsockname(), 10):
                sock.accept()[0].close()
