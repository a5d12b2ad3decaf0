"""What each process of the daemon may do and see, and what its servers may.

What must hold: who reads strangers' bytes has no capability; what shares memory cannot be written by who need not; a
server has nothing of the daemon's, and nothing of another service's.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import CAT, Keep, acceptors, as_user, builtin, role

from fastinetd.core.board import Board
from support.clients import Held, ask, free_port
from support.daemon import Daemon, Launch
from support.proc import descriptors, listeners, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

WITHOUT = ("relay", "doorman", "monitor")


@pytest.fixture
def daemon(launch: Launch) -> Daemon:
    """One with every kind of role."""
    named = entry("named", free_port(), CAT, only_from="localhost")
    return launch(defaults() + builtin("echo", free_port()) + named, metrics=True)


def status(pid: int, field: str) -> str:
    found = re.search(rf"^{field}:[ \t]*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("kind", WITHOUT)
def test_no_privileges(daemon: Daemon, kind: str) -> None:
    pid = role(daemon, kind)
    for field in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status(pid, field), 16) == 0, field
    assert 0 not in map(int, status(pid, "Uid").split() + status(pid, "Gid").split() + status(pid, "Groups").split())
    assert status(pid, "NoNewPrivs") == "1"
    assert Path(f"/proc/{pid}/fd").stat().st_uid == 0, "it may not be traced by its own user"


def test_who_writes_the_board(daemon: Daemon) -> None:
    """Monitor: a mapping and a descriptor to read; doorman: none. Neither can open it for writing again."""
    for kind, wanted in (("monitor", {"r--s"}), ("doorman", set())):
        pid = role(daemon, kind)
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        assert {line.split()[1] for line in lines if "fastinetd-board" in line} == wanted, kind
        for fd, what in descriptors(pid).items():
            if "fastinetd-board" in what:
                flags = re.search(r"^flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{fd}").read_text(), re.MULTILINE)
                assert flags and int(flags[1], 8) & os.O_ACCMODE == os.O_RDONLY
                assert Path(f"/proc/{pid}/fd/{fd}").stat().st_mode & 0o077 == 0


def test_descriptors_of_roles(daemon: Daemon) -> None:
    """Listeners are with those who accept from them, and nobody has another's."""
    at = {f"socket:[{inode}]" for inodes in listeners().values() for inode in inodes}
    scrape = {f"socket:[{inode}]" for inode in listeners()[daemon.metrics_port]}
    own = {what for what in descriptors(daemon.pid).values() if what in at} - scrape
    held = {kind: set(descriptors(role(daemon, kind)).values()) & at for kind in (*WITHOUT, "acceptor 1")}
    assert held["doorman"] == set() and held["monitor"] == scrape
    assert held["relay"] | held["acceptor 1"] == own and not held["relay"] & held["acceptor 1"]
    for kind in ("relay", "acceptor 1", "doorman"):
        assert not any("fastinetd-board" in what for what in descriptors(role(daemon, kind)).values()), kind


SHOW = "#!/bin/sh\nls -l /proc/self/fd | sed -n 's/.* \\([0-9]*\\) -> /fd \\1 /p'; env | sed 's/^/env /'; echo; cat\n"


def test_what_a_server_has(launch: Launch, folder: Path) -> None:
    """Its connection as 0, 1 and 2, and nothing of the daemon's in descriptors and environment."""
    show, port = folder / "show", free_port()
    show.write_text(SHOW)
    show.chmod(0o755)
    other = builtin("echo", free_port()) + entry("named", free_port(), CAT, only_from="localhost")
    spoil = {
        "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "60000000", "LISTEN_FDS": "3", "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "a", "REMOTE_HOST": "spoiled", "TCPREMOTEIP": "1.2.3.4", "INVOCATION_ID": "x",
    }  # fmt: skip
    launch(defaults() + entry("show", port, show) + other, metrics=True, env=spoil)
    text = ask(port, b"end").decode()
    shown = dict(re.findall(r"^fd (\d+) (.*)$", text, re.MULTILINE))
    ours = {fd: what for fd, what in shown.items() if "/proc/" not in what and not what.startswith("pipe:")}
    assert set(ours) <= {"0", "1", "2"} and all(what.startswith("socket:") for what in ours.values()), shown
    names = set(re.findall(r"^env (\w+)=", text, re.MULTILINE))
    assert not names & {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
    assert "spoiled" not in text and "1.2.3.4" not in text


def attempts(pid: int) -> list[str]:
    """What the calling process can do to another, of what it should not."""
    done = []
    with suppress(PermissionError):
        os.kill(pid, signal.SIGURG)
        done.append("signalled")
    if ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0:
        done.append("traced")
    for name in ("mem", "environ", "fd/0"):
        with suppress(OSError):
            os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
            done.append(f"opened {name}")
    return done


def attack(daemon: Daemon, user: str) -> dict[str, list[str]]:
    """Role -> what a process of this user can do to it."""
    found = as_user(
        pwd.getpwnam(user), lambda: {name: done for name, pid in daemon.roles().items() if (done := attempts(pid))}
    )
    assert isinstance(found, dict)
    return found


def test_others_cannot_touch_the_roles(daemon: Daemon) -> None:
    """A server of another user can signal, trace and read none of the daemon's processes."""
    assert attack(daemon, "games") == {}


def test_nobody_cannot_look_into_the_roles(daemon: Daemon) -> None:
    """A server that runs as nobody, as the roles without privileges do, may send those a signal, but no more."""
    assert all(kind in WITHOUT and done == ["signalled"] for kind, done in attack(daemon, "nobody").items())


def test_descriptors_of_services_apart(launch: Launch, keep: Keep[Any]) -> None:
    """Two services, wait and nowait: neither's server has a socket of the other's."""
    one, two, udp = free_port(), free_port(), free_port()
    daemon = launch(
        defaults() + entry("one", one, CAT) + entry("two", two, CAT)
        + entry("udp", udp, CAT, socket_type="dgram", protocol="udp", wait="yes")
    )  # fmt: skip
    keep(Held(one)), keep(Held(two))
    wait_for(lambda: len(daemon.servers()) == 2, "two servers")
    sockets = [set(descriptors(pid).values()) for pid in daemon.servers()]
    assert all(len(each) == 1 for each in sockets) and not sockets[0] & sockets[1], sockets
    for pid in daemon.servers():
        assert sorted(descriptors(pid)) == [0, 1, 2]
    assert len(acceptors(daemon)) >= 1


def test_only_servers_and_roles_are_signalled(launch: Launch) -> None:
    """Who writes the Board without privileges cannot have root signal a process of his choice."""
    port = free_port()
    daemon = launch(defaults() + entry("cat", port, CAT))
    number = next(fd for fd, what in descriptors(daemon.pid).items() if "fastinetd-board" in what)
    written = os.open(f"/proc/{daemon.pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
    board = Board.open(written, True)
    with Held(port), subprocess.Popen(["sleep", "1000"]) as other:
        try:
            (slot,) = wait_for(board.slots_in_use, "a server has a slot")
            board.set_pid(slot.slot, other.pid)
            daemon.stop()
            assert other.poll() is None, "a process that is none of the daemon's was signalled"
        finally:
            other.kill()
            os.kill(slot.pid, signal.SIGKILL)
            os.close(written)
