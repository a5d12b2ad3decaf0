"""The service manager's protocols, against a socket that stands in for it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastinetd.system.notify import Notifier

Start = Callable[..., Notifier]


@pytest.fixture
def started() -> Iterator[Start]:
    """Notifiers, whose sockets are open as long as the daemon lives; here they end with the test."""
    made = []

    def start(environ: dict[str, str], **more: Any) -> Notifier:
        made.append(Notifier(environ, **more))
        return made[-1]

    yield start
    for one in made:
        if one._socket is not None:
            one._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        if request.param == "path":
            address = str(tmp_path / "notify")
            made.bind(address)
        else:
            address = f"@fastinetd-test-{os.getpid()}"
            made.bind("\0" + address[1:])
        yield made, address


def test_a_life(started: Start, manager: tuple[socket.socket, str]) -> None:
    server, address = manager
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notifier = started(environ, clock=lambda: 5_000_001_999)
    assert environ == {"HOME": "/"}
    assert notifier.watchdog_interval == 1.5
    said = [
        notifier.send_ready("2 services"), notifier.send_reloading(), notifier.send_watchdog(), notifier.send_stopping()
    ]
    assert all(said)
    assert [server.recv(1000).decode() for _ in said] == [
        "READY=1\nSTATUS=2 services",
        "RELOADING=1\nMONOTONIC_USEC=5000001",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:3"}])
def test_without_a_manager(started: Start, environ: dict[str, str]) -> None:
    notifier = started(environ)
    assert not notifier.send_ready("2 services") and not notifier.send_watchdog()
    assert notifier.watchdog_interval is None


def test_a_manager_that_is_gone(started: Start, tmp_path: Path) -> None:
    notifier = started({"NOTIFY_SOCKET": str(tmp_path / "none")})
    assert not notifier.send_ready("2 services")


def test_a_manager_that_does_not_read(started: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        notifier = started({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert not all(notifier.send_watchdog() for _ in range(100_000))


@pytest.mark.parametrize("usec, pid", [("", ""), ("0", ""), ("x", ""), ("-1", ""), ("1000", "1"), ("²", "")])
def test_no_watchdog(started: Start, tmp_path: Path, usec: str, pid: str) -> None:
    notifier = started({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid})
    assert notifier.watchdog_interval is None


def test_no_unix_sockets(started: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units with RestrictAddressFamilies= may not make them: the daemon serves, and says what to allow."""

    def refused(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refused)
    notifier = started({"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "3000000"})
    assert notifier.trouble is not None
    assert "RestrictAddressFamilies=AF_UNIX" in notifier.trouble
    assert (notifier.send_ready("x"), notifier.watchdog_interval) == (False, None)
    assert started({"HOME": "/"}).trouble is None
