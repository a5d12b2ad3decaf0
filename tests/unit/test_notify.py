"""The service manager's protocols, against a socket that stands in for it."""

from __future__ import annotations

import os
import socket

import pytest

from fastinetd.notify import Notifier, inherited_listeners


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        if request.param == "path":
            address = str(tmp_path / "notify")
            made.bind(address)
        else:
            address = f"@fastinetd-test-{os.getpid()}"
            made.bind("\0" + address[1:])
        yield made, address


def test_a_life(manager):
    server, address = manager
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notifier = Notifier(environ, clock=lambda: 5_000_001_999)
    assert environ == {"HOME": "/"}
    assert notifier.watchdog_interval == 1.5
    said = [notifier.ready("12 services"), notifier.ready(), notifier.reloading(), notifier.status("a\nb")]
    said += [notifier.watchdog(), notifier.stopping()]
    assert all(said)
    assert [server.recv(1000).decode() for _ in said] == [
        "READY=1\nSTATUS=12 services",
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=5000001",
        "STATUS=a b",
        "WATCHDOG=1",
        "STOPPING=1",
    ]
    assert notifier.environment()["NOTIFY_SOCKET"] == address
    notifier.close()
    assert not notifier.ready()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:3"}])
def test_without_a_manager(environ):
    notifier = Notifier(environ)
    assert not notifier.ready("x") and not notifier.watchdog()
    assert notifier.watchdog_interval is None
    notifier.close()


def test_a_manager_that_is_gone(tmp_path):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")})
    assert not notifier.ready()
    notifier.close()


def test_a_manager_that_does_not_read(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert not all(notifier.watchdog() for _ in range(100_000))
        notifier.close()


@pytest.mark.parametrize("usec, pid", [("", ""), ("0", ""), ("x", ""), ("-1", ""), ("1000", "1"), ("²", "")])
def test_no_watchdog(tmp_path, usec, pid):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid})
    assert notifier.watchdog_interval is None
    notifier.close()


def listen_environ(count: str, pid: str | None = None) -> dict[str, str]:
    return {"LISTEN_FDS": count, "LISTEN_PID": pid or str(os.getpid()), "LISTEN_FDNAMES": "a:b"}


def test_listeners(monkeypatch):
    """Two sockets at 3 and 4, in a child whose low descriptors are its own."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with socket.socket() as one:
                source = os.dup(one.fileno()), os.dup(write)
                low = [os.dup2(fd, 200 + i) for i, fd in enumerate(source)]
                os.closerange(3, 100)
                os.dup2(low[0], 3)
                os.dup2(low[0], 4)
                environ = listen_environ("3")
                found = inherited_listeners(environ)
                inheritable = [os.get_inheritable(fd) for fd in found]
                os.write(low[1], repr((found, inheritable, environ)).encode())
                status = 0
        finally:
            os._exit(status)
    os.close(write)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(read, 1000) == b"([3, 4], [False, False], {})"
    os.close(read)


@pytest.mark.parametrize(
    "environ", [{}, listen_environ("1", "1"), listen_environ("x"), listen_environ("0"), listen_environ("-1")]
)
def test_no_listeners(environ):
    given = dict(environ)
    assert inherited_listeners(given) == []
    assert given == {}
