"""Pools of workers that do as their clients tell them (told_worker.py)."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from fastinetd.core.layout import Method
from support.pooled import Pooled

TOLD = Path(__file__).with_name("told_worker.py")
SECOND = 10**9
WORKER, EXEC = Method.WORKER, Method.EXEC


def serve(pooled: Pooled, *argument: str, **values: Any) -> int:
    """A pool of told workers: one, unless more are asked for."""
    asked: dict[str, Any] = {"least": 1, "most": 32, "workers": 1, **values}
    return pooled.serve(WORKER, os.path.realpath(sys.executable), "-SE", str(TOLD), *argument, **asked)


def tell(client: socket.socket, line: str) -> str:
    """What the worker answers to a line; "" if it closes."""
    client.sendall(line.encode() + b"\n")
    heard = b""
    while not heard.endswith(b"\n") and (part := client.recv(4096)):
        heard += part
    return heard.decode().rstrip("\n")


def ask(pooled: Pooled, *lines: str) -> str:
    """A connection of its own: the last answer."""
    with pooled.connect() as client:
        answers = [tell(client, line) for line in lines]
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    return answers[-1]
