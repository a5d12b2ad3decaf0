"""Workers' programs, started by the daemon for one connection each: what serves when no worker is ready."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import ask, free_port
from support.daemon import Daemon
from support.texts import defaults, entry

ROOT = Path(__file__).parents[2]
HANDLERS = """
import os

def plain(sock, peer):
    print("to nobody", flush=True)
    sock.sendall(f"{peer.host} {peer.local_port} {os.environ['REMOTE_HOST']}\\n".encode())
    return 3

async def coroutine(sock, peer):
    return plain(sock, peer)
"""


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_handler(launch: Callable[..., Daemon], folder: Path, kind: str) -> None:
    """As docs/workers.md writes it for a Python of one's own: its full path is its name too."""
    (folder / "handlers.py").write_text(HANDLERS)
    port = free_port()
    command = f"{sys.executable} -m fastinetd.worker handlers:{kind}"
    text = entry("hello", port, sys.executable, command, flags="NAMEINARGS", env=f"PYTHONPATH={folder}")
    daemon = launch(defaults() + text, metrics=True)
    assert ask(port) == b"127.0.0.1 %d 127.0.0.1\n" % port
    daemon.await_metric("fastinetd_child_exits_total", 1, status="failure")


def test_a_program_in_c(launch: Callable[..., Daemon], folder: Path) -> None:
    subprocess.run(["gcc", "-o", folder / "example", ROOT / "contrib" / "worker_example.c"], check=True)
    port = free_port()
    daemon = launch(defaults() + entry("hello", port, folder / "example"), metrics=True)
    assert [ask(port) for _ in range(2)] == [b"hello 127.0.0.1, 0 before you\n"] * 2
    daemon.await_metric("fastinetd_child_exits_total", 2, status="success")
