"""SIGHUP though the configuration is what it was: programs that wait for clients read anew what they have read.

What must hold: nobody else notices. Roles stay, sessions go on, no client is lost, however often it comes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import ECHO, Keep, Load, await_balance, builtin, consistent

from support.clients import ask, connect, free_port, read_line
from support.daemon import Daemon, Launch
from support.proc import wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

ACCEPTORS = 2
KINDS: dict[str, dict[str, Any]] = {
    "zygote": {"spawn": "zygote", "snapshot": "first_io"},
    "prefork": {"spawn": "prefork", "snapshot": "first_io", "min_spare": 4},
    "worker": {"spawn": "worker", "handler": "told:serve", "min_spare": 2, "max_spare": 2, "max_workers": 4},
}
SCRIPT = """#!/usr/bin/perl
open my $file, '<', '%s';
my $text = <$file>;
close $file;
$| = 1;
print $text;
print while <STDIN>;
"""
HANDLER = """
with open("%s", "rb") as file:
    text = file.read()

def serve(sock, peer):
    sock.sendall(text)
    while data := sock.recv(100):
        sock.sendall(data)
"""


def service(folder: Path, kind: str, port: int) -> str:
    """One that says what is in the file `text`, as it was when its program started, and repeats what clients say."""
    text = folder / "text"
    if kind == "worker":
        (folder / "told.py").write_text(HANDLER % text)
        return entry("told", port, "", env=f"PYTHONPATH={folder}", **KINDS[kind]).replace("    server = \n", "")
    script = folder / "told"
    script.write_text(SCRIPT % text)
    script.chmod(0o755)
    return entry("told", port, script, **KINDS[kind])


def ready(daemon: Daemon, kind: str) -> None:
    if kind == "worker":
        daemon.await_metric("fastinetd_pool_processes", 2, state="idle", timeout=60)
        return
    daemon.await_metric("fastinetd_pool_processes", ACCEPTORS, state="zygote", timeout=60)
    if kind == "prefork":
        daemon.await_metric("fastinetd_pool_processes", 4, state="idle", timeout=60)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_read_is_read_again(
    launch: Launch, folder: Path, keep: Keep[Any], need: Callable[[str], str], kind: str
) -> None:
    need("perl")
    told, echo, text = free_port(), free_port(), folder / "text"
    text.write_text("old\n")
    daemon = launch(defaults() + service(folder, kind, told) + builtin("echo", echo), "--acceptors", str(ACCEPTORS),
                    metrics=True)  # fmt: skip
    ready(daemon, kind)
    before, session, other = daemon.roles(), keep(connect(told)), keep(connect(echo))
    assert read_line(session) == b"old\n"
    text.write_text("new\n")
    assert ask(told, b"x") == b"old\nx", "nothing says that the file has changed"
    daemon.reload()
    wait_for(lambda: ask(told, b"x") == b"new\nx", daemon.said)
    ready(daemon, kind)
    started = daemon.metric("fastinetd_spawn_latency_seconds_count", method="exec")
    assert [ask(told, b"x") for _ in range(8)] == [b"new\nx"] * 8
    assert daemon.metric("fastinetd_spawn_latency_seconds_count", method="exec") == started, "they come from the pool"
    assert daemon.metric("fastinetd_pool_recycled_total", reason="changed") >= 2
    for client in (session, other):
        client.sendall(b"still here\n")
        assert read_line(client) == b"still here\n"
    assert daemon.roles() == before, "nobody else is disturbed"


@pytest.mark.parametrize("kind", KINDS)
def test_storm(launch: Launch, folder: Path, keep: Keep[Any], need: Callable[[str], str], kind: str) -> None:
    """As often as the daemon takes it, under load: no client of the pool's is lost, nor one of another service's."""
    need("perl")
    told, plain, log = free_port(), free_port(), folder / "records"
    (folder / "text").write_text("told\n")
    text = defaults(log, instances="UNLIMITED") + service(folder, kind, told) + entry("plain", plain, ECHO, "plain")
    daemon = launch(text, "--acceptors", str(ACCEPTORS), metrics=True)
    ready(daemon, kind)
    before, session = daemon.roles(), keep(connect(told))
    assert read_line(session) == b"told\n"
    pooled, other = Load(told, 2, b"told\nx", b"x"), Load(plain, 2, b"plain\n")
    for i in range(30):
        daemon.reload()
        if i % 6 == 0:
            pooled.more(4)  # some of them meet a pool that is ready
    for _ in range(3):
        daemon.send(signal.SIGHUP)
    pooled.more(20)
    assert (pooled.end(), other.end()) == ([], [])
    session.sendall(b"still here\n")
    assert read_line(session) == b"still here\n"
    session.close()
    await_balance(log, "told", len(pooled.answers) + 1)
    await_balance(log, "plain", len(other.answers))
    assert daemon.roles() == before
    ready(daemon, kind)
    consistent(daemon)


def test_a_program_that_was_mended(launch: Launch, folder: Path, need: Callable[[str], str]) -> None:
    """What kept the pool from working is gone: it is tried at once, and what is wrong then is told anew."""
    need("perl")
    port, wrong = free_port(), folder / "wrong"
    script = folder / "told"
    script.write_text(f"#!/usr/bin/perl\nexit 7 if -e '{wrong}';\nprint while <STDIN>;\n")
    script.chmod(0o755)
    wrong.touch()
    daemon = launch(defaults() + entry("told", port, script, **KINDS["zygote"]), "--acceptors", "1", metrics=True)

    def told() -> int:
        return daemon.said().count("ended with status 7 before it was ready")

    wait_for(lambda: daemon.metric("fastinetd_pool_recycled_total", reason="mistrusted") >= 3, daemon.said)
    assert told() == 1
    daemon.reload()
    wait_for(lambda: told() == 2, daemon.said)
    wrong.unlink()
    daemon.reload()
    daemon.await_metric("fastinetd_pool_processes", 1, state="zygote")
    daemon.remember_descriptors()
    assert ask(port, b"x\n") == b"x\n"
