"""What a service manager is told, and what it finds when it acts on that: a unit as Type=notify, without systemd."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.clients import Held, ask, free_port
from support.daemon import environment
from support.proc import adopt_orphans, below, process, reap, wait_for
from support.texts import defaults, entry

WATCHDOG = 1.0
PATIENCE = 60.0


class Manager:
    """Reads what the daemon says, as systemd does, and starts it."""

    def __init__(self, folder: Path) -> None:
        self.conf = folder / "daemon.conf"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.daemon: subprocess.Popen[bytes] | None = None
        self.seen: set[int] = set()

    def start(self) -> subprocess.Popen[bytes]:
        told = {"NOTIFY_SOCKET": self.socket.getsockname(), "WATCHDOG_USEC": str(int(WATCHDOG * 1e6))}
        argv = [sys.executable, "-m", "fastinetd", "-f", str(self.conf), "-stayalive"]
        self.daemon = subprocess.Popen(argv, env=environment(told))
        return self.daemon

    def hear(self, first: str) -> str:
        """The next message that begins so; between them is the watchdog's, and nothing else."""
        self.socket.settimeout(PATIENCE)
        while (message := self.socket.recv(4096).decode()) == "WATCHDOG=1" != first:
            pass
        assert message.startswith(first), message
        return message

    def hears_no_watchdog(self) -> bool:
        """What systemd waits for before it kills. What was sent before is passed over."""
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while self.socket.recv(4096):
                pass
        self.socket.settimeout(WATCHDOG)
        try:
            self.socket.recv(4096)
        except TimeoutError:
            return True
        return False

    def family(self, pid: int) -> set[int]:
        """The daemon's processes; they are remembered, to be looked for when it has ended."""
        family = {pid, *below(pid)}
        self.seen |= family
        return family

    def left(self) -> list[int]:
        """Which of those remembered are alive."""
        for pid in self.seen:
            reap(pid)
        return [pid for pid in self.seen if (each := process(pid)) is not None and each.alive]


@pytest.fixture
def manager(folder: Path) -> Iterator[Manager]:
    adopt_orphans()
    manager = Manager(folder)
    yield manager
    if manager.daemon is not None and manager.daemon.poll() is None:
        manager.family(manager.daemon.pid)
        manager.daemon.kill()
        manager.daemon.wait()
    for pid in manager.left():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not manager.left(), manager.left)
    manager.socket.close()


def test_ready_is_listening_and_a_stop_leaves_nothing(manager: Manager) -> None:
    port = free_port()
    manager.conf.write_text(defaults() + entry("cat", port, "/bin/cat"))
    daemon = manager.start()
    assert manager.hear("READY=1") == "READY=1\nSTATUS=1 service"
    assert ask(port, b"x") == b"x"
    manager.hear("WATCHDOG=1")
    manager.family(daemon.pid)
    daemon.send_signal(signal.SIGQUIT)
    manager.hear("STOPPING=1")
    assert daemon.wait(PATIENCE) == 0
    wait_for(lambda: not manager.left(), manager.left)


def test_a_reload_is_done_when_it_is_told(manager: Manager) -> None:
    """Of a good configuration all is served by then; of a refused one nothing, and the old one is."""
    ports = [free_port(), free_port()]
    manager.conf.write_text(defaults() + entry("cat", ports[0], "/bin/cat"))
    daemon = manager.start()
    manager.hear("READY=1")
    manager.conf.unlink()
    daemon.send_signal(signal.SIGHUP)
    manager.hear("RELOADING=1\nMONOTONIC_USEC=")
    assert "the last reload was refused" in manager.hear("READY=1")
    assert ask(ports[0], b"x") == b"x"
    manager.conf.write_text(defaults() + entry("cat", ports[0], "/bin/cat") + entry("other", ports[1], "/bin/cat"))
    daemon.send_signal(signal.SIGHUP)
    manager.hear("RELOADING=1")
    assert manager.hear("READY=1") == "READY=1\nSTATUS=2 services"
    assert [ask(port, b"x") for port in ports] == [b"x", b"x"]


def test_a_daemon_that_hangs_falls_silent_and_another_takes_its_place(manager: Manager) -> None:
    """Though its port is still listened at, and its sessions go on."""
    port = free_port()
    manager.conf.write_text(defaults() + entry("cat", port, "/bin/cat"))
    hung = manager.start()
    manager.hear("READY=1")
    with Held(port) as client:
        assert client.admitted
        manager.family(hung.pid)
        hung.send_signal(signal.SIGSTOP)
        wait_for(manager.hears_no_watchdog, "the watchdog runs out")
        hung.kill()  # WatchdogSignal= of the unit
        hung.wait()
        manager.start()
        manager.hear("READY=1")
        assert ask(port, b"x") == b"x"
        assert client.echoes()
