"""Workers that speak nonsense, processes of pools that somebody traces, servers that make children of the acceptor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from adversity.harm import acceptors, at_rest, consistent, gone, replaced

from support.clients import ask, free_port
from support.daemon import Launch
from support.pools import TALLY, ask_name, built, descendants, recycled, served, settles, tally
from support.proc import process, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

WORKER = r"""
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((constructor)) static void rude(int argc, char **argv)
{
    const char *how = argv[2];
    int status = 0;
    char much[5000] = "";
    if (!getenv("FASTINETD_WORKER"))
        return;
    if (!strcmp(how, "dies"))
        _exit(3);
    if (!strcmp(how, "hangs"))
        for (;;)
            pause();
    if (!strcmp(how, "short"))
        send(3, "x", 1, 0);
    if (!strcmp(how, "empty"))
        send(3, "", 0, 0);
    if (!strcmp(how, "long"))
        send(3, much, sizeof much, 0);
    if (!strcmp(how, "status")) {
        status = 4711;
        send(3, &status, sizeof status, 0);
    }
    if (!strcmp(how, "shuts"))
        shutdown(3, SHUT_RDWR);
    send(3, &status, sizeof status, MSG_NOSIGNAL);
    if (!strcmp(how, "shuts-later"))
        shutdown(3, SHUT_WR);
    if (!strcmp(how, "twice"))
        send(3, &status, sizeof status, 0);
    if (!strcmp(how, "floods"))
        while (send(3, &status, sizeof status, MSG_NOSIGNAL) > 0)
            ;
    if (!strcmp(how, "claims")) {
        poll(&(struct pollfd){.fd = 3, .events = POLLIN}, 1, -1);
        send(3, &status, sizeof status, 0);
    }
    if (!strcmp(how, "dies-later"))
        _exit(4);
    for (;;)
        pause();
}
"""


@pytest.mark.parametrize("how", [
    "dies", "hangs", "short", "empty", "long", "status", "shuts", "shuts-later", "twice", "floods", "claims",
    "dies-later",
])  # fmt: skip
def test_rude_worker(launch: Launch, folder: Path, how: str) -> None:
    port = free_port()
    library = built(folder, "librude.so", WORKER, "-shared", "-fPIC")
    program = built(folder, "rude", TALLY, "-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{folder}")
    _, file = tally(folder)
    text = entry("rude", port, program, f"@{file} {how}", spawn="worker", min_spare=1, max_workers=4)
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    names = [f"n{number}" for number in range(8)]
    answered = [name for name in names if ask_name(port, name, 30)]
    # Who says that it has served what it has not even received loses that client, as if it had closed it.
    lost = sum(recycled(daemon, "rude").values()) if how in ("twice", "floods", "claims") else 0
    assert len(names) - len(answered) <= lost, (how, answered, daemon.said())
    assert served(file) == dict.fromkeys(answered, 1)
    daemon.await_metric("fastinetd_children", 0, service="rude")
    least = {"hangs": 0, "claims": 1}.get(how, 2)
    wait_for(lambda: sum(recycled(daemon, "rude").values()) >= least, daemon.said)
    at_rest(acceptors(daemon), 9, 1)
    assert sum(recycled(daemon, "rude").values()) <= 12
    settles(daemon, "rude")
    consistent(daemon)
    (acceptor,) = acceptors(daemon)
    before = set(descendants(daemon, "rude"))
    daemon.reload(defaults(umask="027") + text)
    replaced(daemon, acceptor, 3)
    wait_for(lambda: all(map(gone, before)), "the workers before the reload have left")


@pytest.mark.parametrize("spawn", ["zygote", "prefork", "worker"])
def test_a_traced_process_of_a_pool(launch: Launch, folder: Path, spawn: str) -> None:
    """Killed, and kept from being reaped by who traces it: the acceptor neither waits for that nor spins."""
    program, file = tally(folder)
    port = free_port()
    text = entry("tally", port, program, f"@{file}", spawn=spawn, min_spare=1, max_spare=1)
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    (acceptor,) = acceptors(daemon)
    ready = {"zygote": "zygote", "prefork": "idle", "worker": "idle"}[spawn]
    daemon.await_metric("fastinetd_pool_processes", 1, service="tally", state=ready)
    victim = next(pid for pid in descendants(daemon, "tally") if spawn != "prefork" or not zygote(pid))
    tracer = Tracer(victim)
    try:
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: (each := process(victim)) is None or each.state == "Z", "killed")
        for name in ("a", "b", "c"):
            assert ask_name(port, name)
        at_rest([acceptor], 19)
    finally:
        tracer.end()
    wait_for(lambda: process(victim) is None, "reaped once nobody traces it")
    settles(daemon, "tally")
    assert served(file) == {"a": 1, "b": 1, "c": 1}


def zygote(pid: int) -> bool:
    return os.path.lexists(f"/proc/{pid}/fd/62")


class Tracer:
    """A process that traces another and does not reap it (ptrace(2), PTRACE_SEIZE)."""

    def __init__(self, victim: int) -> None:
        reader, ready = os.pipe()
        over, self.over = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                import ctypes

                libc = ctypes.CDLL(None, use_errno=True)
                done = libc.ptrace(0x4206, victim, None, None)
                os.write(ready, b"y" if done == 0 else b"n")
                os.close(self.over)
                os.read(over, 1)
            finally:
                os._exit(0)
        os.close(ready)
        os.close(over)
        assert os.read(reader, 1) == b"y"
        os.close(reader)

    def end(self) -> None:
        os.close(self.over)
        os.waitpid(self.pid, 0)


STRANGERS = r"""
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    int status = 0, i;
    for (i = 0; i < 100; i++)
        if (!syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)) {
            setsid();
            _exit(5);
        }
    if (getenv("FASTINETD_WORKER"))
        return 0;
    return write(1, "hello\n", 6) != 6;
}
"""


@pytest.mark.parametrize("spawn", ["exec", "zygote", "prefork", "worker"])
def test_children_that_are_nobodys(launch: Launch, folder: Path, spawn: str) -> None:
    """A server that makes children of the acceptor (CLONE_PARENT) leaves no zombies."""
    port = free_port()
    text = entry("strange", port, built(folder, "strange", STRANGERS), spawn=spawn)
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    for _ in range(5):
        assert ask(port) == b"hello\n"
    daemon.await_metric("fastinetd_child_exits_total", 5, service="strange", status="success")
    wait_for(lambda: not daemon.zombies(), lambda: f"{len(daemon.zombies())} zombies")
