"""Pools while the daemon runs: reloads, programs that change, programs that cannot be held, and workers."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.c import STRICT
from support.clients import ask, connect, crowd, free_port, read_line
from support.daemon import Daemon, Launch
from support.pools import recycled
from support.proc import wait_for
from support.texts import ME, defaults, entry

ACCEPTORS, WORKERS = 2, 4
OPTIONS = ("--acceptors", str(ACCEPTORS))
CONTRIB = Path(__file__).parents[2] / "contrib"
KINDS: dict[str, dict[str, Any]] = {
    "zygote": {"spawn": "zygote"},
    "prefork": {"spawn": "prefork", "min_spare": 4},
    "first_io": {"spawn": "zygote", "snapshot": "first_io"},
}
ECHO = """
#include <string.h>
#include <unistd.h>
int main(void)
{
    char text[200];
    ssize_t size;
    while ((size = read(0, text, sizeof text)) > 0) {
        write(1, "%s", strlen("%s"));
        write(1, text, size);
    }
    return 0;
}
"""
SCRIPTS = {
    "bash": '#!/bin/bash\nword="%s"\nwhile IFS= read -r line; do echo "$word$line"; done\n',
    "perl": '#!/usr/bin/perl\nmy $word = "%s"; $| = 1;\nwhile (my $line = <STDIN>) { print "$word$line"; }\n',
    "python": """#!{python} -IS
import sys
word = "%s"
for line in sys.stdin:
    print(word + line, end="", flush=True)
""",
}


def pools_are_ready(daemon: Daemon, kind: str) -> None:
    daemon.await_metric("fastinetd_pool_processes", ACCEPTORS, state="zygote", timeout=60)
    parked = KINDS[kind].get("min_spare", 0)
    wait_for(lambda: daemon.metric("fastinetd_pool_processes", state="idle") >= parked, f"{parked} are parked", 60)


def program(path: Path, word: str) -> Path:
    """Put a program that answers with `word` at `path`, as an upgrade does: a new file with the old name."""
    fresh = path.with_suffix(".fresh")
    subprocess.run(["gcc", *STRICT, "-x", "c", "-o", fresh, "-"], input=ECHO.replace("%s", word), text=True, check=True)
    fresh.rename(path)
    return path


class Talk:
    """A connection under way."""

    def __init__(self, port: int, word: bytes) -> None:
        self.socket, self.word = connect(port), word
        try:
            self.goes_on()
        except AssertionError:
            self.socket.close()
            raise

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def goes_on(self) -> None:
        self.socket.sendall(b"more\n")
        assert read_line(self.socket) == self.word + b"more\n"

    def ends(self) -> None:
        self.goes_on()
        self.socket.shutdown(socket.SHUT_WR)
        assert self.socket.recv(1) == b""


def becomes(daemon: Daemon, port: int, kind: str, old: bytes, new: bytes) -> None:
    """Every client is served, by the old program for a second at most, then by the new one, and by pools of it."""

    def served() -> list[bytes]:
        answers = crowd(lambda _: ask(port, b"x\n"), 8, 4)
        assert set(answers) <= {old + b"x\n", new + b"x\n"}
        return answers

    wait_for(lambda: set(served()) == {new + b"x\n"}
             and daemon.metric("fastinetd_pool_recycled_total", reason="changed") > 0, daemon.said)
    pools_are_ready(daemon, kind)
    hits = daemon.metric("fastinetd_pool_hits_total")
    assert set(served()) == {new + b"x\n"}
    wait_for(lambda: daemon.metric("fastinetd_pool_hits_total") > hits, "the new program's pools serve")


@pytest.mark.parametrize("kind", KINDS)
def test_a_replaced_program(launch: Launch, folder: Path, kind: str) -> None:
    path, port = program(folder / "program", "old "), free_port()
    daemon = launch(defaults() + entry("echo", port, path, **KINDS[kind]), *OPTIONS, metrics=True)
    pools_are_ready(daemon, kind)
    daemon.remember_descriptors()
    with Talk(port, b"old ") as talk:
        program(path, "new ")
        becomes(daemon, port, kind, b"old ", b"new ")
        talk.ends()


@pytest.mark.parametrize("language", SCRIPTS)
def test_an_edited_script(launch: Launch, folder: Path, language: str, need: Callable[[str], str]) -> None:
    """Edited in place, as an editor may do it: the same file with another time."""
    need("perl")
    text = SCRIPTS[language].replace("{python}", os.path.realpath(sys.executable))
    path, port = folder / "script", free_port()
    path.write_text(text % "old ")
    path.chmod(0o755)
    daemon = launch(defaults() + entry("echo", port, path, **KINDS["first_io"]), *OPTIONS, metrics=True)
    pools_are_ready(daemon, "first_io")
    daemon.remember_descriptors()
    with Talk(port, b"old ") as talk:
        with path.open("r+") as file:  # of the same length: a shell that reads on is not confused
            file.write(text % "new ")
        becomes(daemon, port, "first_io", b"old ", b"new ")
        talk.ends()


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_among_the_arguments(launch: Launch, folder: Path, kind: str) -> None:
    path, port = folder / "script", free_port()
    path.write_text(SCRIPTS["bash"] % "old ")
    daemon = launch(defaults() + entry("echo", port, "/bin/bash", str(path), **KINDS[kind]), *OPTIONS, metrics=True)
    pools_are_ready(daemon, kind)
    daemon.remember_descriptors()
    fresh = folder / "fresh"
    fresh.write_text(SCRIPTS["bash"] % "new ")
    fresh.rename(path)
    becomes(daemon, port, kind, b"old ", b"new ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reload_brings_other_arguments(launch: Launch, folder: Path, kind: str) -> None:
    port = free_port()
    script = folder / "script"
    script.write_text('#!/bin/bash\nwhile IFS= read -r line; do echo "$1 $line"; done\n')
    script.chmod(0o755)

    def text(word: str) -> str:
        return defaults() + entry("echo", port, script, word, **KINDS[kind])

    daemon = launch(text("old"), *OPTIONS, metrics=True)
    pools_are_ready(daemon, kind)
    daemon.remember_descriptors()
    with Talk(port, b"old ") as talk:
        daemon.reload(text("new"))
        wait_for(lambda: ask(port, b"x\n") == b"new x\n", daemon.said)
        pools_are_ready(daemon, kind)
        hits = daemon.metric("fastinetd_pool_hits_total")
        assert crowd(lambda _: ask(port, b"x\n"), 8, 4) == [b"new x\n"] * 8
        wait_for(lambda: daemon.metric("fastinetd_pool_hits_total") > hits, "the new pools serve")
        talk.ends()
    daemon.remember_descriptors()


@pytest.mark.parametrize("kind", KINDS)
def test_a_reload_to_a_pool_and_back(launch: Launch, kind: str) -> None:
    port = free_port()
    texts = [defaults() + entry("cat", port, "/bin/cat", **more) for more in ({}, KINDS[kind], {})]
    daemon = launch(texts[0], *OPTIONS, metrics=True)
    with Talk(port, b"") as before:
        daemon.reload(texts[1])
        pools_are_ready(daemon, kind)
        with Talk(port, b"") as during:
            daemon.await_metric("fastinetd_pool_hits_total", 1)
            daemon.reload(texts[2])
            with Talk(port, b"") as after:
                for talk in (after, before, during):
                    talk.ends()
    wait_for(lambda: not daemon.servers(), lambda: f"no process of a pool is left: {daemon.servers()}")
    daemon.remember_descriptors()


# ---- what cannot be held ----


def static(folder: Path) -> dict[str, Any]:
    path = folder / "static"
    subprocess.run(["gcc", *STRICT, "-static", "-x", "c", "-o", path, "-"], input=ECHO.replace("%s", ""), text=True,
                   check=True)
    return {"server": path}


def set_uid(folder: Path) -> dict[str, Any]:
    path = folder / "set-uid"
    shutil.copy("/bin/cat", path)
    path.chmod(0o755 | stat.S_ISUID)
    return {"server": path}


def threads(folder: Path) -> dict[str, Any]:
    """One that starts a thread before main, in a library."""
    (folder / "early.c").write_text(
        "#include <pthread.h>\n#include <unistd.h>\nstatic pthread_t id;\n"
        "static void *thread(void *unused) { for (;;) pause(); }\n"
        "__attribute__((constructor)) static void early(void) { pthread_create(&id, 0, thread, 0); }\n"
    )
    subprocess.run(["gcc", *STRICT, "-shared", "-fPIC", "-o", folder / "early.so", folder / "early.c"], check=True)
    return {"server": "/bin/cat", "env": f"LD_PRELOAD={folder}/early.so"}


def leaves(folder: Path) -> dict[str, Any]:
    """One that ends if it does not find a client's address in its environment."""
    path = folder / "leaves"
    path.write_text('#!/bin/bash\n[ "$REMOTE_HOST" ] || exit 3\nwhile IFS= read -r line; do echo "$line"; done\n')
    path.chmod(0o755)
    return {"server": path, "snapshot": "first_io"}


def by_env(folder: Path) -> dict[str, Any]:
    path = folder / "by-env"
    path.write_text("#!/usr/bin/env bash\nexec cat\n")
    path.chmod(0o755)
    return {"server": path}


UNHOLDABLE: dict[str, tuple[Callable[[Path], dict[str, Any]], str, str]] = {
    "static": (static, "is linked statically; link it dynamically", "static"),
    "set-uid": (set_uid, "is set-uid; take the bit away", "privileged"),
    "env": (by_env, "only starts another program; begin .* with #!/", "interpreter"),
    "threads": (threads, "its program has threads before it can be held", ""),
    "leaves": (leaves, "a process of its pool ended with status 3 before it was ready", ""),
}
"""What is served by exec all the same, what is said about it, and how metrics call it (nothing: it is tried)."""


@pytest.mark.parametrize("kind", ["zygote", "prefork"])
@pytest.mark.parametrize("name", UNHOLDABLE)
def test_a_program_that_cannot_be_held(launch: Launch, folder: Path, name: str, kind: str) -> None:
    make, expected, word = UNHOLDABLE[name]
    more, port = make(folder), free_port()
    server = more.pop("server")
    daemon = launch(defaults() + entry("echo", port, str(server), spawn=kind, **more), *OPTIONS, metrics=True)

    def told() -> list[str]:
        return [line for line in daemon.said().splitlines() if re.search(expected, line)]

    assert crowd(lambda i: ask(port, b"line %d\n" % i), 20, 4) == [b"line %d\n" % i for i in range(20)]
    wait_for(told, lambda: f"told: {daemon.said()}")
    if word:
        assert daemon.metric("fastinetd_pool_refused", service="echo", reason=word) == 1
    else:  # these are tried again, with growing pauses
        wait_for(lambda: daemon.metric("fastinetd_pool_recycled_total", reason="mistrusted") > 3 * ACCEPTORS,
                 "tried again")
    assert len(told()) == 1, daemon.said()
    assert len([line for line in daemon.said().splitlines() if "echo" in line]) == 1, daemon.said()
    daemon.await_metric("fastinetd_child_exits_total", 20, status="success")
    assert daemon.metric("fastinetd_spawn_latency_seconds_count", method="exec") == 20
    assert daemon.metric("fastinetd_pool_misses_total") == 20
    assert daemon.metric("fastinetd_pool_hits_total") == 0


# ---- workers ----

HANDLERS = """
import asyncio, os
count = 0

def plain(sock, peer):
    global count
    count += 1
    with sock.makefile("rw") as file:
        for line in file:
            print(peer.host, os.environ["REMOTE_HOST"], count > 0, line, end="", file=file, flush=True)

async def coroutine(sock, peer):
    reader, writer = await asyncio.open_connection(sock=sock)
    async for line in reader:
        writer.write(b"%s %s True %s" % (peer.host.encode(), peer.variables["REMOTE_HOST"].encode(), line))
        await writer.drain()
    writer.close()
"""


def workers_are_ready(daemon: Daemon) -> None:
    daemon.await_metric("fastinetd_pool_processes", WORKERS, state="idle", timeout=60)
    daemon.remember_descriptors()


@pytest.mark.parametrize("function", ["plain", "coroutine"])
def test_a_handler_in_python(launch: Launch, folder: Path, function: str) -> None:
    (folder / "handlers.py").write_text(HANDLERS)
    port = free_port()
    sizes = "".join(f";{name}={WORKERS}" for name in ("min_spare", "max_spare", "max_workers"))
    server = f";spawn=worker;handler=handlers:{function};max_requests=50{sizes}"
    text = f"127.0.0.1:{port} stream tcp nowait {ME} {server}\n"
    daemon = launch(text, *OPTIONS, kind="inetd", metrics=True, env={"PYTHONPATH": str(folder)})
    workers_are_ready(daemon)

    def meet(i: int) -> None:
        with connect(port, source=f"127.0.0.{i % 200 + 7}") as s:
            for _ in range(2):
                s.sendall(b"line %d\n" % i)
                host = s.getsockname()[0].encode()
                assert read_line(s) == b"%s %s True line %d\n" % (host, host, i)

    crowd(meet, 60, 6)
    daemon.await_metric("fastinetd_child_exits_total", 60, status="success")
    hits, misses = (daemon.metric(f"fastinetd_pool_{each}_total") for each in ("hits", "misses"))
    assert hits + misses == 60 and hits >= 50, (hits, misses)


BURNS = """
import time

def burn(sock, peer):
    end = time.process_time() + 0.15
    while time.process_time() < end:
        pass
    sock.sendall(b"done\\n")
"""


def test_a_limit_of_processor_time_costs_no_client(launch: Launch, folder: Path) -> None:
    """It counts for all connections of a worker, and the kernel ends the one that comes to it: so none does."""
    (folder / "handlers.py").write_text(BURNS)
    port = free_port()
    text = defaults() + entry("burn", port, "/bin/true", user=ME, spawn="worker", handler="handlers:burn", rlimit_cpu=1,
                              max_workers=1).replace("    server = /bin/true\n", "")
    daemon = launch(text, "--acceptors", "1", metrics=True, env={"PYTHONPATH": str(folder)})
    daemon.await_metric("fastinetd_pool_processes", 1, state="idle", timeout=60)
    assert [ask(port) for _ in range(12)] == [b"done\n"] * 12
    assert set(recycled(daemon, "burn")) == {"cpu"}


@pytest.mark.parametrize("acceptors", [ACCEPTORS, 2 * WORKERS])
def test_a_worker_in_c(launch: Launch, folder: Path, acceptors: int) -> None:
    """Half of the acceptors serve it: so it has no more workers than it asks for, with twice as many acceptors too."""
    path, port = folder / "worker", free_port()
    subprocess.run(["gcc", "-O1", "-o", path, CONTRIB / "worker_example.c"], check=True)
    text = (f'[defaults]\ncps = [0, 0]\n[service.hello]\ntype = "UNLISTED"\nport = {port}\nsocket_type = "stream"\n'
            f'wait = false\nuser = "{ME}"\nbind = "127.0.0.1"\nserver = "{path}"\nspawn = "worker"\n'
            f"min_spare = {WORKERS}\nmax_spare = {WORKERS}\nmax_workers = {WORKERS}\n")
    daemon = launch(text, "--acceptors", str(acceptors), kind="toml", metrics=True)
    workers_are_ready(daemon)
    answers = [ask(port) for _ in range(40)]
    assert all(re.fullmatch(rb"hello 127\.0\.0\.1, \d+ before you\n", answer) for answer in answers)
    assert len(set(answers)) > 5  # the same process has served several
    hits = daemon.metric("fastinetd_pool_hits_total")
    assert hits == 40 and daemon.metric("fastinetd_pool_misses_total") == 0
    daemon.await_metric("fastinetd_child_exits_total", 40, status="success")
