"""Handlers that do what their client says: the request is the body of a function of `sock` and `peer`."""

from __future__ import annotations

import asyncio
import os
import socket
import textwrap
from typing import Any

from fastinetd.worker import Peer

NOT_CALLABLE = 3
FOUND = {"os": os, "asyncio": asyncio, "socket": socket, "kept": []}
"""The global names of a request's function; what it puts into `kept` stays."""


def _function(sock: socket.socket, kind: str) -> Any:
    """The function that a request is the body of; it ends with a NUL, or where the client closes its side. The socket's
    mode stays as it is."""
    text = b""
    while not text.endswith(b"\0") and (piece := sock.recv(65536)):
        text += piece
    made: dict[str, Any] = {}
    body = textwrap.indent(text.decode().rstrip("\0") or "pass", "    ")
    exec(f"{kind} body(sock, peer):\n{body}\n", FOUND, made)
    return made["body"]


def plain(sock: socket.socket, peer: Peer) -> Any:
    assert type(peer) is Peer
    return _function(sock, "def")(sock, peer)


async def coroutine(sock: socket.socket, peer: Peer) -> Any:
    assert type(peer) is Peer
    return await _function(sock, "async def")(sock, peer)


def forgets(sock: socket.socket, peer: Peer) -> Any:
    """A handler that is no coroutine function, though it returns a coroutine."""
    return coroutine(sock, peer)


class Group:
    """Handlers may be found in something, and be methods or objects."""

    async def method(self, sock: socket.socket, peer: Peer) -> None:
        sock.sendall(b"method")

    async def __call__(self, sock: socket.socket, peer: Peer) -> None:
        sock.sendall(b"object")


group = Group()
