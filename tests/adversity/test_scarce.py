"""What the machine may run out of: descriptors, processes, disk space, a log that nobody reads.

What must hold: what there is no room for is told and counted, nothing spins or leaks, and with room all goes on.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import CAT, ECHO, HELLO, Keep, Launch, Load, Need, acceptors, at_rest, await_balance, consistent

from support.clients import Held, ask, connect, free_port, read_all
from support.daemon import records
from support.proc import descriptors, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")


@pytest.mark.parametrize("limit", [80, 96, 128, 256])
def test_descriptors(launch: Launch, keep: Keep[Any], folder: Path, need: Need, limit: int) -> None:
    """More servers than descriptors to watch them by, and more clients than descriptors: all are served in the end."""
    held, port, log = free_port(), free_port(), folder / "records"
    daemon = launch(
        defaults(log, instances="UNLIMITED") + entry("held", held, CAT) + entry("hello", port, ECHO, "hello"),
        "--acceptors", "1", metrics=True, prefix=[need("prlimit"), f"--nofile={limit}", "--"],
    )  # fmt: skip
    (taker,) = acceptors(daemon)
    before = len(descriptors(taker))
    clients = [keep(connect(held)) for _ in range(limit * 2)]
    wait_for(lambda: len(daemon.servers()) == len(clients), lambda: f"{len(daemon.servers())} servers")
    assert len(descriptors(taker)) >= limit - 66
    at_rest([taker, daemon.pid], 10)
    assert ask(port) == HELLO
    for client in clients:
        client.close()
    await_balance(log, "held", len(clients))
    wait_for(lambda: len(descriptors(taker)) == before, "the acceptor's descriptors are closed")
    daemon.reload(daemon.conf.read_text() + "".join(entry(f"s{i}", free_port(), CAT) for i in range(limit)))
    assert "Too many open files" in daemon.said()
    daemon.reload(defaults(log) + entry("hello", port, ECHO, "again"))
    wait_for(lambda: ask(port) == b"again\n", "the service after there is room again")
    wait_for(lambda: sorted(daemon.roles())[:2] == ["acceptor 1", "monitor"], daemon.roles)
    consistent(daemon)


def test_reload_without_descriptors(launch: Launch, folder: Path) -> None:
    """The new roles' channels cannot be opened: those there are go on, and with room the reload is completed."""
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + entry("old", port, ECHO, "old"))
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (max(descriptors(daemon.pid)) + 1, hard))
    daemon.reload(defaults(log) + entry("new", port, ECHO, "new", only_from="localhost 127.0.0.1"))
    assert "no other roles can be started: Too many open files" in daemon.said()
    assert ask(port) == b"old\n"
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
    wait_for(lambda: ask(port) == b"new\n", daemon.said)
    consistent(daemon)
    daemon.remember_descriptors()


def test_fewer_descriptors_than_are_in_use(launch: Launch, folder: Path) -> None:
    """The limit of the running daemon is lowered below its descriptors' numbers: what to allow is told."""
    old, new = free_port(), free_port()
    daemon = launch(defaults() + entry("old", old, ECHO, "old"))
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (40, hard))
    daemon.reload(daemon.conf.read_text() + entry("new", new, ECHO, "new"))
    assert "(errno = EMFILE); allow more open files (ulimit -n, LimitNOFILE), it is tried again" in daemon.said()
    assert "cannot start acceptor 1: Too many open files: what limits this process is open files 40" in daemon.said()
    assert ask(old) == b"old\n"
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
    wait_for(lambda: daemon.said().count("listening on") and ask(new) == b"new\n", daemon.said)
    consistent(daemon)
    daemon.remember_descriptors()


def test_no_dev_null(folder: Path, need: Need) -> None:
    """To start, one line says how to make it; a daemon that it is taken from while it serves ends all the same."""
    conf, port = folder / "null.conf", free_port()
    conf.write_text(defaults() + entry("hello", port, ECHO, "hello"))
    prefix = [need("unshare"), "-m", "sh", "-c", 'mount -t tmpfs none /dev && eval "$0" && exec "$@"']
    command = [sys.executable, "-m", "fastinetd", "-f", str(conf), "-dontfork"]
    done = subprocess.run([*prefix, "true", *command], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "mknod -m 666 /dev/null c 1 3" in line
    with subprocess.Popen([*prefix, "mknod -m 666 /dev/null c 1 3", *command], stderr=subprocess.PIPE,
                          text=True) as daemon:  # fmt: skip
        assert daemon.stderr is not None
        while "Started working" not in daemon.stderr.readline():
            assert daemon.poll() is None
        Path("/proc", str(daemon.pid), "root", "dev/null").unlink()
        daemon.send_signal(signal.SIGTERM)
        said = daemon.communicate(timeout=30)[1]
    assert daemon.returncode == 0, said
    assert "No such file" not in said


def test_no_proc(folder: Path, need: Need) -> None:
    """One line that says how to mount it, and status 1."""
    conf = folder / "bare.conf"
    conf.write_text(defaults() + entry("hello", free_port(), ECHO))
    done = subprocess.run(
        [need("unshare"), "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh",
         sys.executable, "-m", "fastinetd", "-f", str(conf), "-dontfork"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "mount -t proc proc /proc" in line


def test_processes(launch: Launch, keep: Keep[Any], folder: Path) -> None:
    """RLIMIT_NPROC of the service's user: told with the errno, counted, the client closed; then it goes on."""
    port, log = free_port(), folder / "records"
    user = 60_000 + os.getpid() % 5_000  # nobody else's: all processes of a user on the machine are counted
    text = entry("held", port, CAT, user=user, groups="no")
    daemon = launch(defaults(log) + text, "--acceptors", "2", metrics=True)
    for taker in acceptors(daemon):
        resource.prlimit(taker, resource.RLIMIT_NPROC, (3, 3))
    clients = [keep(Held(port)) for _ in range(8)]
    admitted = [client for client in clients if client.admitted]
    assert len(admitted) == 4
    assert daemon.metric("fastinetd_spawn_failures_total", service="held", errno="EAGAIN") == 4
    assert daemon.metric("fastinetd_children", service="held") == 4
    wait_for(lambda: len(records(log, "FAIL", "held fork")) == 4, lambda: records(log))
    assert re.search(r"service held: fork failed: .*errno = 11", daemon.said())
    for client in admitted:
        client.close()
    await_balance(log, "held", 4)
    assert keep(Held(port)).admitted
    consistent(daemon)


@pytest.fixture
def disk(folder: Path, need: Need) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = folder / "disk"
    place.mkdir()
    subprocess.run([need("mount"), "-t", "tmpfs", "-o", "size=64k", "none", str(place)], check=True)
    yield place
    subprocess.run([need("umount"), "-l", str(place)], check=True)


def test_full_disk(launch: Launch, disk: Path) -> None:
    """Service goes on; what is kept is written once there is room, what is lost is counted, no line is broken."""
    port, log, own, ballast = free_port(), disk / "records", disk / "own", disk / "ballast"
    daemon = launch(defaults(log) + entry("hello", port, ECHO, "hello"), "-filelog", str(own), metrics=True)
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    load = Load(port, 4)
    load.more(6200)
    assert load.end() == []
    assert daemon.metric("fastinetd_journal_depth") < 4096
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    told = wait_for(lambda: re.search(r": (\d+) records could not be written", log.read_text()), log.read_text)
    assert told
    lost = int(told[1])
    wait_for(
        lambda: len(records(log, "START")) + len(records(log, "EXIT")) == 2 * len(load.answers) - lost,
        lambda: (lost, len(load.answers), len(records(log, "START")), len(records(log, "EXIT"))),
    )
    wait_for(lambda: "can be written again" in own.read_text(), own.read_text)


def test_syslog_that_nobody_reads(launch: Launch, folder: Path, need: Need) -> None:
    """A socket with a full queue, then none at all, then one that is read: service goes on, the log catches up."""
    port, place = free_port(), folder / "dev-log"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(place))
    text = defaults(log_type="SYSLOG daemon info", log_on_success="PID", instances="UNLIMITED")
    script = f"mount --bind {place} /dev/log; exec \"$@\""
    if not Path("/dev/log").exists():
        Path("/dev/log").touch()  # something to mount on
    daemon = launch(
        text + entry("hello", port, ECHO, "hello"), metrics=True,
        prefix=[need("unshare"), "--mount", need("sh"), "-c", script, "sh"],
    )  # fmt: skip
    with listener:
        load = Load(port, 3)
        load.more(300)
        assert load.end() == []
        at_rest([daemon.pid], 15)
        listener.settimeout(10)
        seen: list[bytes] = []
        while sum(b"START: hello" in line for line in seen) < len(load.answers):
            seen.append(listener.recv(8192))
    place.unlink()
    assert [ask(port) for _ in range(20)] == [HELLO] * 20


def test_no_descriptors_at_all(folder: Path, need: Need) -> None:
    """Too few to start with: one line that says so, and status 1."""
    conf = folder / "few.conf"
    conf.write_text(defaults() + entry("hello", free_port(), ECHO))
    done = subprocess.run(
        [need("prlimit"), "--nofile=40", "--", sys.executable, "-m", "fastinetd", "-f", str(conf), "-dontfork"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and done.stderr.strip()


def test_stopped_disk_reader(launch: Launch, folder: Path) -> None:
    """A log that is a pipe without a reader delays nobody."""
    port, log = free_port(), folder / "pipe"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    daemon = launch(defaults(log) + entry("hello", port, ECHO, "hello"))
    load = Load(port, 4)
    load.more(1500)  # more than a pipe holds
    assert load.end() == []
    os.close(reader)
    assert [ask(port) for _ in range(20)] == [HELLO] * 20
    daemon.send(signal.SIGHUP)
    assert read_all(connect(port)) == HELLO
