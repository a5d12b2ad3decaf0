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
from adversity.harm import CAT, ECHO, HELLO, Keep, Load, acceptors, at_rest, await_balance, consistent
from adversity.harm import builtin as builtin_entry

from support.clients import Held, ask, connect, free_port, read_all
from support.daemon import Daemon, Launch, records
from support.proc import descriptors, listeners, wait_for
from support.programs import Need
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
    (acceptor,) = acceptors(daemon)
    before = len(descriptors(acceptor))
    clients = [keep(connect(held)) for _ in range(limit * 2)]
    wait_for(lambda: len(daemon.servers()) == len(clients), lambda: f"{len(daemon.servers())} servers")
    assert len(descriptors(acceptor)) >= limit - 66
    at_rest([acceptor, daemon.pid], 10)
    assert ask(port) == HELLO
    for client in clients:
        client.close()
    await_balance(log, "held", len(clients))
    wait_for(lambda: len(descriptors(acceptor)) == before, "the acceptor's descriptors are closed")
    more = "".join(entry(f"s{i}", free_port(), CAT) for i in range(limit))
    assert "Too many open files" in refused(daemon, daemon.conf.read_text() + more)
    daemon.reload(defaults(log) + entry("hello", port, ECHO, "again"))
    wait_for(lambda: ask(port) == b"again\n", "the service after there is room again")
    wait_for(lambda: sorted(daemon.roles())[:2] == ["acceptor 1", "monitor"], daemon.roles)
    consistent(daemon)


def refused(daemon: Daemon, conf: str) -> str:
    """Reload, and what is told of why that is not taken; who serves is who did."""
    roles = daemon.roles()
    daemon.rewrite(conf)
    before = len(daemon.said())
    daemon.send(signal.SIGHUP)
    why = "reconfiguration failed, the configuration in use is kept: "
    wait_for(lambda: why in daemon.said()[before:], daemon.said)
    wait_for(lambda: daemon.roles() == roles, lambda: f"{daemon.roles()} after {roles}")
    assert "Reconfigured" not in daemon.said()[before:]
    return daemon.said()[before:].partition(why)[2].splitlines()[0]


LIMITS = {"address space": (resource.RLIMIT_AS, "ulimit -v, LimitAS"),
          "data": (resource.RLIMIT_DATA, "ulimit -d, LimitDATA")}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_new_roles_that_do_not_come_up(launch: Launch, keep: Keep[Any], folder: Path, name: str) -> None:
    """There is no memory for them: the old ones serve on, all that they served and as it was, and nothing else; the
    reload has failed, and is taken when there is room."""
    which, where = LIMITS[name]
    log, mended = folder / "records", folder / "mended"
    gone, changed, held, stays, late, built = (free_port() for _ in range(6))
    before = defaults(log) + "".join((
        entry("gone", gone, CAT), entry("changed", changed, ECHO, "old", instances=1), entry("held", held, CAT),
        builtin_entry("echo", built), entry("stays", stays, CAT),
    ))  # fmt: skip
    after = defaults(mended) + "".join((
        entry("changed", changed, ECHO, "new", instances=2), entry("held", late, CAT, instances=1),
        entry("stays", stays, CAT), entry("late", gone, ECHO, "late"),
    ))  # fmt: skip
    daemon = launch(before, metrics=True)
    sockets = {port: each for port, each in listeners().items() if port in (gone, changed, held, stays, built)}
    clients = [keep(Held(port)) for port in (gone, held, stays, built)]
    assert all(client.echoes() for client in clients)
    limits = resource.prlimit(daemon.pid, which)
    resource.prlimit(daemon.pid, which, (1 << 20, limits[1]))
    for _ in range(3):
        told = refused(daemon, after)
        assert re.match(rf"cannot start acceptor \d+: out of memory: what limits this process is {name} ", told)
        assert f"({where}); allow more" in told and told.endswith("; then reload again")
        assert {port: each for port, each in listeners().items() if port in sockets} == sockets
        assert late not in listeners()
        assert ask(changed) == b"old\n"
        assert all(client.echoes() for client in clients)
        more = [keep(Held(port)) for port in (gone, held, stays, built)]
        assert all(client.echoes() for client in more)
        clients += more
    assert daemon.metric("fastinetd_config_last_reload_successful") == 0
    daemon.await_metric("fastinetd_children", 4, service="gone")
    wait_for(lambda: len(records(log, "START", "gone")) == 4 and not records(mended), lambda: records(log))
    resource.prlimit(daemon.pid, which, limits)
    daemon.reload()
    assert (ask(changed), ask(gone)) == (b"new\n", b"late\n")
    assert clients[2].echoes() and clients[1].echoes()
    assert held not in listeners() and built not in listeners()
    for client in clients:
        client.close()
    consistent(daemon)
    daemon.remember_descriptors()


def test_roles_for_a_listener_that_comes_late(launch: Launch) -> None:
    """They do not come up, either: those there are go on, and it is tried again, later and later, until they do."""
    port, taken = free_port(), free_port()
    with socket.create_server(("127.0.0.1", taken)):
        daemon = launch(defaults() + entry("hello", port, ECHO, "hello") + entry("late", taken, ECHO, "late"))
        roles = daemon.roles()
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_AS)
        resource.prlimit(daemon.pid, resource.RLIMIT_AS, (1 << 20, limits[1]))
    why = "no other roles can be started: cannot start acceptor 1: out of memory"
    wait_for(lambda: daemon.said().count(why) == 2, daemon.said, 60)
    assert ask(port) == HELLO
    wait_for(lambda: daemon.roles() == roles, lambda: f"{daemon.roles()} after {roles}")
    resource.prlimit(daemon.pid, resource.RLIMIT_AS, limits)
    wait_for(lambda: ask(taken) == b"late\n", daemon.said)
    assert daemon.said().count(why) <= 4
    consistent(daemon)
    daemon.remember_descriptors()


def test_reload_without_descriptors(launch: Launch, folder: Path) -> None:
    """The new roles' channels cannot be opened: the reload is refused, and with room another one is taken."""
    port, log = free_port(), folder / "records"
    daemon = launch(defaults(log) + entry("old", port, ECHO, "old"))
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (max(descriptors(daemon.pid)) + 1, hard))
    told = refused(daemon, defaults(log) + entry("new", port, ECHO, "new", only_from="localhost 127.0.0.1"))
    assert "Too many open files: what limits this process is open files" in told
    assert ask(port) == b"old\n"
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
    daemon.reload()
    wait_for(lambda: ask(port) == b"new\n", daemon.said)
    consistent(daemon)
    daemon.remember_descriptors()


def test_fewer_descriptors_than_are_in_use(launch: Launch, folder: Path) -> None:
    """The limit of the running daemon is lowered below its descriptors' numbers: what to allow is told, and nothing is
    changed."""
    old, new = free_port(), free_port()
    daemon = launch(defaults() + entry("old", old, ECHO, "old"))
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (40, hard))
    told = refused(daemon, daemon.conf.read_text() + entry("new", new, ECHO, "new"))
    assert "(errno = EMFILE); allow more open files (ulimit -n, LimitNOFILE), it is tried again" in daemon.said()
    assert "cannot start acceptor 1: Too many open files: what limits this process is open files 40" in told
    assert ask(old) == b"old\n"
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (hard, hard))
    daemon.reload()
    assert ask(new) == b"new\n"
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
    for acceptor in acceptors(daemon):
        resource.prlimit(acceptor, resource.RLIMIT_NPROC, (3, 3))
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
