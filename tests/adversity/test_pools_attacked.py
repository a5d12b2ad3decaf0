"""Processes of the service's own user that want to change what the next clients get.

What must hold: from its first instruction until it serves, nobody but root gets into a zygote or a parked child; what
keeps them out is gone from the server, which finds what it finds with exec.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import pytest
from adversity.harm import as_user, become

from support.clients import ask, connect, free_port, read_line
from support.daemon import Daemon, Launch
from support.proc import program, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")


USER = pwd.getpwnam("games")
TRUE, FALSE = b"the true text", b"not that text"
KINDS: dict[str, dict[str, Any]] = {
    "zygote": {"spawn": "zygote", "snapshot": "first_io"},
    "prefork": {"spawn": "prefork", "snapshot": "first_io", "min_spare": 2},
}

SLOW = r"""
#include <fcntl.h>
#include <unistd.h>

static char text[] = "the true text\n";

int main(int count, char **words)
{
    char line[100];
    close(open(words[1], O_RDONLY));        /* its start takes until somebody has opened the pipe */
    write(1, text, sizeof text - 1);
    return read(0, line, sizeof line) < 0;  /* it serves until the client leaves */
}
"""

SCRIPT = """#!/usr/bin/perl
use POSIX;
my $text = "the true text";
$| = 1;
print "$text\\n";
"""

libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
PIDFD_GETFD, PROCESS_VM_READV, PROCESS_VM_WRITEV = 438, 310, 311


class Piece(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def got_into(pid: int) -> list[str]:
    """By which ways the calling process has got into another."""
    done = []
    for name in ("mem", "maps", "environ", "auxv", "fd/0", "fd/62", "exe", "root", "pagemap"):
        with suppress(OSError):
            os.close(os.open(f"/proc/{pid}/{name}", os.O_RDWR if name == "mem" else os.O_RDONLY))
            done.append(name)
    for name in ("exe", "cwd", "fd/0", "ns/mnt"):
        with suppress(OSError):
            Path(f"/proc/{pid}/{name}").readlink()
            done.append(f"link {name}")
    with suppress(OSError):
        os.listdir(f"/proc/{pid}/map_files")
        done.append("map_files")
    bytes_ = ctypes.create_string_buffer(8)
    ours, theirs = Piece(ctypes.addressof(bytes_), 8), Piece(0x400000, 8)
    for call, number in (("process_vm_readv", PROCESS_VM_READV), ("process_vm_writev", PROCESS_VM_WRITEV)):
        one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
        libc.syscall(number, pid, ctypes.byref(ours), one, ctypes.byref(theirs), one, none)
        if ctypes.get_errno() != errno.EPERM:  # EFAULT is from one who may
            done.append(call)
    pidfd = os.pidfd_open(pid)
    if libc.syscall(PIDFD_GETFD, pidfd, 0, 0) >= 0:
        done.append("pidfd_getfd")
    os.close(pidfd)
    if libc.ptrace(PTRACE_ATTACH, pid, 0, 0) == 0:
        os.waitpid(pid, 0x40000000)  # __WALL
        libc.ptrace(PTRACE_DETACH, pid, 0, 0)
        done.append("ptrace")
    return done


def attack(pids: Sequence[int]) -> list[str]:
    """What a process of the service's user can do to others."""
    found = as_user(USER, lambda: sorted({way for each in pids for way in got_into(each)}))
    assert isinstance(found, list)
    return found


def running(daemon: Daemon, path: Path) -> list[int]:
    return [pid for pid in daemon.servers() if program(pid) == str(path)]


def pool_is_ready(daemon: Daemon, kind: str) -> None:
    daemon.await_metric("fastinetd_pool_processes", 2, state="zygote", timeout=60)
    if kind == "prefork":
        daemon.await_metric("fastinetd_pool_processes", 2, state="idle", timeout=60)


def capabilities(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t") for line in lines if line.startswith(("Cap", "NoNewPrivs", "Seccomp")))


@pytest.fixture
def gate(folder: Path) -> Path:
    """The pipe that the slow program's start waits for."""
    path = folder / "gate"
    os.mkfifo(path)
    path.chmod(0o666)
    return path


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Whoever waits for the gate goes on, and nobody else waits."""
    fd = os.open(gate, os.O_RDWR)
    yield
    os.close(fd)


@pytest.fixture
def slow(folder: Path, need: Callable[[str], str]) -> Path:
    need("gcc")
    path = folder / "slow"
    subprocess.run(["gcc", "-O1", "-w", "-x", "c", "-o", path, "-"], input=SLOW, text=True, check=True)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_gets_into_what_waits(launch: Launch, slow: Path, gate: Path, kind: str) -> None:
    """Not while the program starts, however long that takes, and not while it is held. A server is as open as one that
    was started by exec, and has the same privileges."""
    pooled, plain = free_port(), free_port()
    common = {"user": USER.pw_name, "group": "games"}
    daemon = launch(
        defaults() + entry("pooled", pooled, slow, str(gate), **common, **KINDS[kind])
        + entry("plain", plain, slow, str(gate), **common),
        "--acceptors", "2", metrics=True,
    )  # fmt: skip
    wait_for(lambda: len(running(daemon, slow)) == 2, daemon.said)
    assert attack(running(daemon, slow)) == [], "while they start"
    with opened(gate):
        pool_is_ready(daemon, kind)
        held = running(daemon, slow)
        assert attack(held) == [], "while they are held"
        assert all(int(value, 16) == 0 for pid in held for name, value in capabilities(pid).items()
                   if name in ("CapInh", "CapPrm", "CapEff", "CapAmb"))  # fmt: skip
        found = []
        for port in (plain, pooled):
            with connect(port) as client:
                assert read_line(client) == TRUE + b"\n"
                (server,) = [pid for pid in running(daemon, slow) if Path(f"/proc/{pid}/fd").owner() == USER.pw_name]
                found.append((attack([server]), capabilities(server)))
    assert found[0] == found[1], "a server has what it has with exec"
    assert {"mem", "ptrace", "pidfd_getfd", "process_vm_writev"} <= set(found[0][0]), "the attack works on a server"


def keep_open(known: set[str], kept: dict[str, tuple[TextIO, int]]) -> None:
    """Open the memory of whatever process of this user has appeared."""
    for name in set(os.listdir("/proc")) - known:
        if not name.isdigit() or name in kept or name == str(os.getpid()):
            continue
        with suppress(OSError):
            place = Path("/proc", name)
            if place.stat().st_uid == USER.pw_uid:
                kept[name] = (place / "maps").open(), os.open(place / "mem", os.O_RDWR)


def overwrite(maps: TextIO, memory: int) -> None:
    """Put the false text wherever the true one is in a process's memory."""
    for line in maps.read().splitlines():
        first, last = (int(each, 16) for each in line.split()[0].split("-"))
        with suppress(OSError):
            found = os.pread(memory, last - first, first) if "rw" in line and last - first < 1 << 26 else b""
            at = found.find(TRUE)
            while at >= 0:
                os.pwrite(memory, FALSE, first + at)
                at = found.find(TRUE, at + 1)


def test_where_nothing_keeps_them_out(launch: Launch, slow: Path, gate: Path, need: Callable[[str], str]) -> None:
    """A container without the capabilities: it is said, and the pool works."""
    port = free_port()
    daemon = launch(
        defaults() + entry("text", port, slow, str(gate), user=USER.pw_name, **KINDS["zygote"]), "--acceptors", "2",
        metrics=True, prefix=[need("setpriv"), "--bounding-set", "-net_broadcast,-wake_alarm,-net_bind_service"],
    )  # fmt: skip
    assert "other processes of user games can change what clients of service text get" in daemon.said()
    wait_for(lambda: len(running(daemon, slow)) == 2, daemon.said)
    assert "mem" in attack(running(daemon, slow))
    with opened(gate):
        pool_is_ready(daemon, "zygote")
        assert ask(port, b"x") == TRUE + b"\n"
        assert daemon.metric("fastinetd_pool_hits_total") == 1


@contextmanager
def attacker() -> Iterator[socket.socket]:
    """A process of the service's user that opens whatever of its user appears; told so it writes, and says how many it
    has opened."""
    ours, theirs = socket.socketpair()
    if (pid := os.fork()) == 0:
        try:
            become(USER)
            known, kept = set(os.listdir("/proc")), dict[str, tuple[TextIO, int]]()
            theirs.send(b"here")
            theirs.setblocking(False)
            while not select.select([theirs], [], [], 0)[0]:
                keep_open(known, kept)
            for maps, memory in kept.values():
                overwrite(maps, memory)
            theirs.send(str(len(kept)).encode())
        finally:
            os._exit(0)
    theirs.close()
    try:
        assert ours.recv(100) == b"here"
        yield ours
    finally:
        ours.close()
        os.waitpid(pid, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_race_for_each_start(launch: Launch, folder: Path, kind: str, need: Callable[[str], str]) -> None:
    need("perl")
    script, port = folder / "script", free_port()
    script.write_text(SCRIPT)
    script.chmod(0o755)
    with attacker() as process:
        daemon = launch(defaults() + entry("text", port, script, user=USER.pw_name, **KINDS[kind]), "--acceptors", "2",
                        metrics=True)  # fmt: skip
        pool_is_ready(daemon, kind)
        process.send(b"write")
        kept = int(process.recv(100))
        assert [ask(port) for _ in range(8)] == [TRUE + b"\n"] * 8
        assert kept == 0


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGSEGV], ids=["stopped", "crashed"])
def test_what_others_can_do_costs_no_client(launch: Launch, slow: Path, gate: Path, how: int) -> None:
    """They can stop and end a program that starts: clients are served by exec meanwhile."""
    port = free_port()
    daemon = launch(defaults() + entry("text", port, slow, str(gate), user=USER.pw_name, **KINDS["zygote"]),
                    "--acceptors", "2", metrics=True)  # fmt: skip
    wait_for(lambda: len(running(daemon, slow)) == 2, daemon.said)
    for pid in running(daemon, slow):
        os.kill(pid, how)
    with opened(gate):
        assert ask(port, b"x") == TRUE + b"\n"
