"""Pools whose processes are stopped, lost or busy, beside services that must not notice."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import ECHO, HELLO, Keep, acceptors, at_rest, consistent, gone, replaced, switches
from adversity.test_pools_rude import rude

from support.clients import ask, connect, free_port, read_line
from support.daemon import Daemon, Launch
from support.pools import ask_name, built, descendants, gauges, held, recycled, served, settles, tally, told
from support.proc import below, process, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")


def stop(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda pid=pid: (each := process(pid)) is None or each.state == "T", "stopped")  # type: ignore[misc]


def pool(daemon: Daemon, state: str, count: int) -> list[int]:
    """The processes of the service `tally`, once so many are in a state."""
    daemon.await_metric("fastinetd_pool_processes", count, service="tally", state=state)
    return [*descendants(daemon, "tally")]


@pytest.mark.parametrize("spawn", ["zygote", "prefork", "worker"])
def test_stopped_processes(launch: Launch, folder: Path, spawn: str) -> None:
    """Everybody is served within seconds, by exec, and nobody twice when they go on."""
    program, file = tally(folder)
    port = free_port()
    text = entry("tally", port, program, f"@{file}", spawn=spawn, min_spare=2, max_spare=2, max_workers=2)
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    pids = pool(daemon, "zygote" if spawn == "zygote" else "idle", 1 if spawn == "zygote" else 2)
    stop(pids)
    names = [f"n{number}" for number in range(6)]
    answers: list[bool] = []
    clients = [threading.Thread(target=lambda name=name: answers.append(ask_name(port, name, 15))) for name in names]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    for pid in pids:
        if process(pid) is not None:
            os.kill(pid, signal.SIGCONT)
    assert answers == [True] * len(names), daemon.said()
    assert served(file) == dict.fromkeys(names, 1)
    assert told(daemon, "left") == 1, daemon.said()
    settles(daemon, "tally")
    daemon.await_metric("fastinetd_children", 0, service="tally")
    consistent(daemon)


@pytest.mark.parametrize("spawn", ["zygote", "prefork", "worker"])
def test_stopped_processes_when_it_ends(launch: Launch, folder: Path, spawn: str) -> None:
    """Also they see that there is no daemon any more, and leave."""
    program, file = tally(folder)
    text = entry("tally", free_port(), program, f"@{file}", spawn=spawn, min_spare=3, max_spare=3, max_workers=3)
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    pids = pool(daemon, "zygote" if spawn == "zygote" else "idle", 1 if spawn == "zygote" else 3)
    stop(pids)
    assert daemon.stop() == 0
    wait_for(lambda: all(map(gone, pids)), lambda: [process(pid) for pid in pids])


STAYS = r"""
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    int status = 0;
    char byte;
    signal(SIGTERM, SIG_IGN);
    send(3, &status, sizeof status, MSG_NOSIGNAL);
    while (recv(3, &byte, 1, 0) >= 0)
        pause();
}
"""


def test_a_worker_that_stays_when_the_daemon_ends(launch: Launch, folder: Path) -> None:
    """It has been told that there are no more connections, and that is the end of it."""
    text = entry("stays", free_port(), built(folder, "stays", STAYS), spawn="worker", min_spare=2, max_workers=2)
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    daemon.await_metric("fastinetd_pool_processes", 2, service="stays", state="idle")
    pids = [*descendants(daemon, "stays")]
    assert daemon.stop() == 0
    assert all(map(gone, pids)), [process(pid) for pid in pids]


def test_a_lost_fork_among_many(launch: Launch, folder: Path) -> None:
    """A fork that was killed before it took its client is found out although others answer all the time."""
    port = free_port()
    text, file = rude(folder, port, "loses-first")
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    daemon.await_metric("fastinetd_pool_processes", 1, service="rude", state="zygote")
    first: list[bool] = []
    waiting = threading.Thread(target=lambda: first.append(ask_name(port, "first", 30)))
    waiting.start()
    daemon.await_metric("fastinetd_children", 1, service="rude")
    count = 0
    while waiting.is_alive():
        count += 1
        assert ask_name(port, f"n{count}")
        waiting.join(0.05)
    assert first == [True], daemon.said()
    assert set(served(file).values()) == {1} and len(served(file)) == count + 1
    settles(daemon, "rude")


@pytest.mark.parametrize("spawn", ["zygote", "worker"])
def test_many_who_wait_leave_room_for_others(launch: Launch, keep: Keep[Any], folder: Path, spawn: str) -> None:
    """Clients that wait for a pool do not take the low descriptors that starting other servers needs."""
    program, file = tally(folder)
    port, other = free_port(), free_port()
    more = {"min_spare": 1, "max_spare": 1, "max_workers": 100} if spawn == "worker" else {}
    text = entry("tally", port, program, f"@{file}", spawn=spawn, **more) + entry("hello", other, ECHO, "hello")
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    if spawn == "worker":
        busy = [keep(connect(port)) for _ in range(100)]
        for number, client in enumerate(busy):
            client.sendall(b"hold%d\n" % number)
            assert read_line(client) == b"hold%d\n" % number
    else:
        stop(pool(daemon, "zygote", 1))
    waiting = [keep(connect(port)) for _ in range(90)]
    daemon.await_metric("fastinetd_children", 190 if spawn == "worker" else 90, service="tally")
    assert [ask(other) for _ in range(3)] == [HELLO] * 3
    if spawn == "worker":
        for client in busy:
            client.close()
    for number, client in enumerate(waiting):
        client.sendall(b"n%d\n" % number)
    assert [read_line(client) for client in waiting] == [b"n%d\n" % number for number in range(90)]
    assert {name: count for name, count in served(file).items() if count != 1} == {}
    if spawn == "worker":
        daemon.await_metric("fastinetd_pool_processes", 1, 60, service="tally", state="idle")
    settles(daemon, "tally")


def test_a_retired_acceptor_does_not_spin(launch: Launch, keep: Keep[Any], folder: Path) -> None:
    """It waits, asleep, for the worker that clients are still waiting for, and starts no others."""
    program, file = tally(folder)
    port = free_port()
    sizes = {"min_spare": 2, "max_spare": 2, "max_workers": 2, "max_requests": 1}
    text = entry("tally", port, program, f"@{file}", spawn="worker", **sizes)
    daemon = launch(defaults() + text, "--acceptors", "1", metrics=True)
    clients = [keep(connect(port)) for _ in range(3)]
    for number, client in enumerate(clients):
        client.sendall(b"hold%d\n" % number)
        if number < 2:
            assert read_line(client) == b"hold%d\n" % number
    daemon.await_metric("fastinetd_children", 3, service="tally")
    (acceptor,) = acceptors(daemon)
    daemon.reload(defaults(umask="027") + text)
    victim = next(pid for pid, each in below(daemon.pid).items() if each.parent == acceptor)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: process(victim) is None, "its end is seen")
    at_rest([acceptor], 9, 2)
    for client in clients[:2]:
        client.close()
    assert read_line(clients[2]) == b"hold2\n"
    clients[2].close()
    replaced(daemon, acceptor, 3)


def test_idle_pools_sleep(launch: Launch, folder: Path) -> None:
    """Pools of every kind, after some use: no wake-ups, and gauges as /proc shows it."""
    program, file = tally(folder)
    kinds: dict[str, dict[str, object]] = {
        "zygote": {}, "prefork": {"min_spare": 4, "max_spare": 4},
        "worker": {"min_spare": 4, "max_spare": 4, "max_age": 3600},
    }  # fmt: skip
    ports = {kind: free_port() for kind in kinds}
    for kind in kinds:
        shutil.copy(program, folder / kind)
    text = "".join(
        entry(kind, ports[kind], folder / kind, f"@{file}", spawn=kind, **more) for kind, more in kinds.items()
    )
    daemon = launch(defaults() + text, "--acceptors", "2", metrics=True)
    for kind, state, count in (("zygote", "zygote", 2), ("prefork", "idle", 4), ("worker", "idle", 4)):
        daemon.await_metric("fastinetd_pool_processes", count, service=kind, state=state)
    daemon.remember_descriptors()
    for kind, port in ports.items():
        assert all(ask_name(port, f"{kind}{number}") for number in range(30))
    at_rest(acceptors(daemon), 0, 4, switches)
    for kind in kinds:
        settles(daemon, kind)
    assert gauges(daemon, "zygote") == {"zygote": 2, "starting": 0, "idle": 0, "busy": 0}
    assert sum(map(held, descendants(daemon, "prefork"))) == 2
    assert recycled(daemon, "zygote") == {}
