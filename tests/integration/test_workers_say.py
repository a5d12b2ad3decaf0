"""What workers say of themselves: in the daemon's messages, wherever those go, and there is no syslog."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import ask, free_port
from support.daemon import Daemon, Launch
from support.proc import wait_for
from support.texts import defaults, entry

HANDLERS = """
import os, sys

def wrong(sock, peer):
    number = sock.recv(100).decode()
    raise ValueError(f"not a number: {number}")

def printing(sock, peer):
    print("to nobody", flush=True)
    print("a word for who runs it", sock.recv(100), file=sys.stderr)
    sock.sendall(b"served")

def flooding(sock, peer):
    for number in range(20_000):
        print(number, file=sys.stderr)
        os.write(2, b"%d" % number) if number < 3 else None
    sock.sendall(b"served")
"""

BY_EXEC = """
import os, sys

if "REMOTE_HOST" not in os.environ:
    raise RuntimeError("this will be no worker")

def by_exec(sock, peer):
    print("a word of it", file=sys.stderr)
    raise ValueError("where no worker was ready")
"""


@pytest.fixture
def handle(launch: Launch, folder: Path) -> Callable[[str], tuple[Daemon, int]]:
    def start(function: str) -> tuple[Daemon, int]:
        (folder / "saying.py").write_text(HANDLERS)
        port = free_port()
        text = entry("web", port, "", spawn="worker", handler=f"saying:{function}", env=f"PYTHONPATH={folder}",
                     min_spare=2, max_spare=2, max_workers=2)  # fmt: skip
        daemon = launch(defaults() + text.replace("    server = \n", ""), "--acceptors", "2", metrics=True)
        daemon.await_metric("fastinetd_pool_processes", 2, state="idle")
        daemon.remember_descriptors()
        return daemon, port

    return start


def said(daemon: Daemon) -> list[str]:
    marker = "fastinetd: warning: service web: a worker says: "
    return [line.removeprefix(marker) for line in daemon.said().splitlines() if line.startswith(marker)]


def test_a_handler_that_fails_is_told_once(handle: Callable[[str], tuple[Daemon, int]]) -> None:
    """By both workers, for every client, each with a text of his own."""
    daemon, port = handle("wrong")
    daemon.may_say_anything = True  # a traceback is meant
    for number in range(40):
        assert ask(port, b"%d\x1b[2J" % number) == b""
    daemon.await_metric("fastinetd_child_exits_total", 40, status="failure")
    wait_for(lambda: any("Error: not a number: 0\\x1b[2J" in line for line in said(daemon)), daemon.said)
    told = said(daemon)
    assert told[0].startswith("handler saying:wrong: ValueError: not a number: 0") and "(client 127.0.0.1 " in told[0]
    assert sum("Traceback (most recent call last)" in line for line in told) == 1, told
    assert 4 < len(told) < 12, told
    assert daemon.stop() == 0
    assert re.fullmatch(r"\d+ more like this: handler saying:wrong: .*", said(daemon)[-1]), "at its end, or each minute"


def test_what_a_handler_prints(handle: Callable[[str], tuple[Daemon, int]]) -> None:
    daemon, port = handle("printing")
    assert ask(port, b"hello") == b"served"
    wait_for(lambda: said(daemon) == ["a word for who runs it b'hello'"], daemon.said)


def test_a_flood_delays_nobody(handle: Callable[[str], tuple[Daemon, int]]) -> None:
    daemon, port = handle("flooding")
    assert ask(port) == b"served"
    daemon.await_metric("fastinetd_child_exits_total", 1, status="success")
    wait_for(lambda: said(daemon), daemon.said)
    assert len(said(daemon)) <= 20


def test_a_handler_that_cannot_be_imported(launch: Launch) -> None:
    port = free_port()
    text = entry("web", port, "", spawn="worker", handler="nowhere_to_be_found:f").replace("    server = \n", "")
    daemon = launch(defaults() + text, "--acceptors", "2", metrics=True)
    daemon.may_say_anything = True
    wait_for(lambda: daemon.metric("fastinetd_pool_recycled_total", reason="mistrusted") >= 4, daemon.said)
    wait_for(lambda: said(daemon), daemon.said)
    told = said(daemon)
    assert told[0].startswith("handler nowhere_to_be_found:f cannot be imported: ModuleNotFoundError: ")
    assert "write `env = PYTHONPATH=/the/folder/of/the/module`" in told[0]
    assert sum(line.startswith("Traceback") for line in told) == 1, "each of them has tried"
    assert daemon.said().count("ended with status 78 before it was ready") == 1


def test_a_program_that_is_no_worker(launch: Launch, folder: Path) -> None:
    """Whatever it is, its last words are there."""
    path = folder / "no-worker"
    path.write_text("#!/bin/sh\necho 'cannot find my configuration' >&2\nexit 3\n")
    path.chmod(0o755)
    daemon = launch(defaults() + entry("web", free_port(), path, spawn="worker"), "--acceptors", "2", metrics=True)
    wait_for(lambda: said(daemon) == ["cannot find my configuration"], daemon.said)
    wait_for(lambda: "ended with status 3 before it was ready" in daemon.said(), daemon.said)


def test_a_handler_that_fails_where_no_worker_can_be_had(launch: Launch, folder: Path) -> None:
    """It was started for this client only, and neither he nor syslog is told."""
    (folder / "saying.py").write_text(BY_EXEC)
    port = free_port()
    text = entry("web", port, "", spawn="worker", handler="saying:by_exec", env=f"PYTHONPATH={folder}")
    daemon = launch(defaults() + text.replace("    server = \n", ""), "--acceptors", "2", metrics=True)
    daemon.may_say_anything = True  # a traceback is meant
    assert ask(port) == b""
    wait_for(lambda: any("Error: where no worker was ready" in line for line in said(daemon)), daemon.said)
    assert "a word of it" in said(daemon)
