"""Processes of the daemon that are killed or stopped, at chosen moments, under load.

What must hold: running servers live, limits stay exact, each server has one START and one EXIT record, no slot leaks.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import (
    CAT,
    ECHO,
    HELLO,
    Keep,
    Load,
    acceptors,
    at_rest,
    await_balance,
    builtin,
    consistent,
    gone,
    kill_at,
    replaced,
    role,
    signal_all,
    unbalanced,
)  # fmt: skip

from support.clients import Held, ask, connect, free_port, read_all
from support.daemon import Launch, records
from support.lacking import need_localhost
from support.proc import listens, process, wait_for
from support.programs import Need
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

START = ("accept4", "clone", "pidfd_open", "fcntl")
END = ("epoll_ctl", "waitid", "close", "epoll_wait")


@pytest.mark.parametrize("calls", [START, END], ids=["start", "end"])
def test_acceptor_killed_between_steps(
    launch: Launch, keep: Keep[Any], folder: Path, need: Need, calls: tuple[str, ...]
) -> None:
    """Killed at a system call of a connection's life: whatever was done so far is finished by the supervisor."""
    need("strace")
    held, port, log = free_port(), free_port(), folder / "records"
    daemon = launch(
        defaults(log) + entry("held", held, CAT, instances=5, per_source=4) + entry("hello", port, ECHO, "hello"),
        "--acceptors", "2", metrics=True,
    )  # fmt: skip
    clients = [keep(Held(held)) for _ in range(3)]
    roles = len(daemon.roles())
    load = Load(port)
    moments = [(call, number) for call in calls for number in (1, 4)]
    for call, number in moments:
        victim = acceptors(daemon)[0]
        kill_at(victim, call, number)
        replaced(daemon, victim, roles)
        assert all(client.echoes() for client in clients), (call, number)
    lost = load.end()
    assert set(lost) <= {b""} and len(lost) <= 17 * len(moments), lost
    wait_for(lambda: len(records(log, "START", "hello")) >= len(load.answers) - len(lost), "all are recorded")
    wait_for(lambda: not unbalanced(log, "hello"), lambda: unbalanced(log, "hello"))
    started = len(records(log, "START", "hello"))
    assert daemon.metric("fastinetd_child_exits_total", service="hello") == started
    assert daemon.metric("fastinetd_children", service="hello") == 0
    assert daemon.metric("fastinetd_children", service="held") == 3
    assert [keep(Held(held)).admitted for _ in range(3)] == [True, False, False], "per_source = 4, three running"
    consistent(daemon)


def test_acceptors_and_servers_die_together(launch: Launch, keep: Keep[Any], folder: Path) -> None:
    """More ends at once than the journal has room for: none is lost, none is told twice."""
    held, log = free_port(), folder / "records"
    daemon = launch(defaults(log, instances="UNLIMITED") + entry("held", held, CAT), "--acceptors", "2", metrics=True)
    clients = [keep(connect(held)) for _ in range(4200)]
    wait_for(lambda: len(daemon.servers()) == len(clients), "all servers run", 60)
    servers, running = daemon.servers(), acceptors(daemon)
    wait_for(lambda: len(records(log, "START", "held")) == len(clients), "all are recorded")
    signal_all([*running, daemon.pid], signal.SIGSTOP)
    signal_all([*servers, *running], signal.SIGKILL)
    os.kill(daemon.pid, signal.SIGCONT)
    await_balance(log, "held", len(clients))
    assert daemon.metric("fastinetd_child_exits_total", service="held", status="signal") == len(clients)
    consistent(daemon)


def test_acceptors_stopped(launch: Launch, keep: Keep[Any], folder: Path) -> None:
    """One stopped acceptor delays nobody; limits count what it holds; killed, its servers go on."""
    held, port, log = free_port(), free_port(), folder / "records"
    daemon = launch(
        defaults(log) + entry("held", held, CAT, instances=4) + entry("hello", port, ECHO, "hello"), "--acceptors", "3"
    )
    clients = [keep(Held(held)) for _ in range(4)]
    for victim in acceptors(daemon)[:2]:
        os.kill(victim, signal.SIGSTOP)
        wait_for(lambda pid=victim: (each := process(pid)) and each.state == "T", "stopped")  # type: ignore[misc]
        assert [ask(port, timeout=10) for _ in range(20)] == [HELLO] * 20
        assert not keep(Held(held)).admitted
        consistent(daemon)
        os.kill(victim, signal.SIGKILL)
        replaced(daemon, victim, 4)
    assert all(client.echoes() for client in clients) and not keep(Held(held)).admitted
    for client in clients:
        client.close()
    await_balance(log, "held", 4)


@pytest.mark.parametrize("kind", ["relay", "doorman", "monitor"])
def test_other_role_killed_again_and_again(launch: Launch, keep: Keep[Any], folder: Path, kind: str) -> None:
    """The service goes on beside it, and it is replaced each time, soon."""
    need_localhost()
    port, echo, log = free_port(), free_port(), folder / "records"
    named = entry("hello", port, ECHO, "hello", only_from="localhost 127.0.0.0/8")
    daemon = launch(defaults(log) + named + builtin("echo", echo, only_from="localhost"), metrics=True)
    roles = len(daemon.roles())
    load = Load(port, 2)
    for _ in range(4):
        victim = role(daemon, kind)
        keep(connect(echo))
        os.kill(victim, signal.SIGKILL)
        replaced(daemon, victim, roles)
        load.more(20)
    assert load.end() == []
    wait_for(lambda: ask(echo, b"x") == b"x", "the relay serves")
    wait_for(lambda: not unbalanced(log, "hello"), "an EXIT for each START")
    consistent(daemon)


@pytest.mark.parametrize("kind", ["relay", "doorman", "monitor"])
def test_other_role_stopped_again_and_again(launch: Launch, kind: str) -> None:
    """Any process that runs as its user can do that: its clients are served all the same, and it is told once."""
    need_localhost()
    echo, named = free_port(), free_port()
    text = defaults() + builtin("echo", echo) + entry("named", named, ECHO, "hello", only_from="localhost")
    daemon = launch(text, metrics=True)
    victim = role(daemon, kind)
    for _ in range(4):
        os.kill(victim, signal.SIGSTOP)
        assert ask(echo, b"x", timeout=10) == b"x"
        assert ask(named, timeout=10) == HELLO
        assert daemon.metric("fastinetd_build_info") == 1
    assert role(daemon, kind) == victim
    told = [line for line in daemon.said().splitlines() if "had been stopped and goes on" in line]
    assert len(told) == 1, told
    assert re.search(rf"{kind} \(pid {victim}\).*useradd --system fastinetd", told[0])


def test_supervisor_stopped_until_the_journal_is_full(launch: Launch, keep: Keep[Any], folder: Path) -> None:
    """Acceptors wait, asleep, for room; afterwards everybody is served and every record is there."""
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + entry("hello", port, ECHO, "hello"), "--acceptors", "1")
    (acceptor,) = acceptors(daemon)
    os.kill(daemon.pid, signal.SIGSTOP)
    load = Load(port, 6)
    wait_for(lambda: len(load.answers) >= 2040, "the journal fills", 60)
    at_rest([acceptor], 5, 0.5)
    served = len(load.answers)
    waiting = [connect(port) for _ in range(20)]
    at_rest([acceptor], 5, 0.5)
    assert len(load.answers) == served
    os.kill(daemon.pid, signal.SIGCONT)
    assert [read_all(client) for client in waiting] == [HELLO] * 20
    load.more(50)
    assert load.end() == []
    await_balance(log, "hello", len(load.answers) + 20)
    consistent(daemon)


def test_supervisor_killed_while_the_journal_is_full(launch: Launch, keep: Keep[Any], folder: Path) -> None:
    """Nobody will ever read the journal again: the acceptors leave, and another daemon binds at once."""
    port, log = free_port(), folder / "records"
    text = defaults(log) + entry("hello", port, ECHO, "hello")
    daemon = launch(text, "--acceptors", "2")
    family = list(daemon.roles().values())
    os.kill(daemon.pid, signal.SIGSTOP)
    load = Load(port, 6)
    wait_for(lambda: len(load.answers) >= 4080, "the journals fill", 60)
    at_rest(acceptors(daemon), 5, 0.5)
    daemon.may_say_anything = True
    daemon.process.kill()
    wait_for(lambda: all(map(gone, family)), "all of it gone", 5)
    load.end()
    assert not listens(port)
    launch(text)
    assert ask(port) == HELLO


def test_supervisor_killed_twenty_times(launch: Launch, keep: Keep[Any]) -> None:
    """Under load, each next one binds at once; servers of all of them live on."""
    held, port = free_port(), free_port()
    text = defaults() + entry("held", held, CAT) + entry("hello", port, ECHO, "hello")
    clients, refused = [], []
    for _ in range(20):
        daemon = launch(text, "--acceptors", "2")
        assert "cannot listen" not in daemon.said()
        clients.append(keep(Held(held)))
        load = Load(port, 2)
        load.more(10)
        daemon.may_say_anything = True
        daemon.process.kill()
        daemon.process.wait()
        refused += load.end()
    assert all(answer == b"" or "Refused" in str(answer) or "Reset" in str(answer) for answer in refused), refused
    assert all(client.echoes() for client in clients)
