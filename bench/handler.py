"""hello.c as a Python handler: `spawn = worker` and `handler = bench_handler:hello`."""

from __future__ import annotations

import socket


def hello(connection: socket.socket, peer: object) -> None:
    """One line out; whoever calls this closes the connection."""
    connection.sendall(b"hello\n")
