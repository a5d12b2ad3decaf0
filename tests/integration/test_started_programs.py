"""What a server is given that xinetd does not have: both ways to start it, more variables, unix sockets, interfaces."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from support.clients import ask, connect, datagrams, free_port, has_ipv6, read_all
from support.daemon import MODULE, Launch
from support.proc import listens, wait_for
from support.reach import import_path
from support.texts import ME, Service, defaults, entry
from support.views import PROBE, View, view

ANSWER = f"{PROBE} answer"


def unprivileged(folder: Path) -> list[str]:
    """The prefix that starts the daemon as nobody, so that no server needs another user than the daemon's."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "nobody", "nogroup")
    return ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]


def expect_common(seen: View) -> None:
    """What holds for every server that is given a connection."""
    whole = seen.comparable()
    assert whole["descriptors"] == [(fd, "socket:[N]", False) for fd in range(3)]
    assert whole["one socket"]
    for name in ("SigBlk", "SigIgn", "SigPnd", "ShdPnd"):
        assert int(seen.status[name], 16) == 0, name
    assert seen.session_is_own
    assert seen.group_is_own
    assert seen.terminal == 0
    assert seen.places == "/\n/"


def test_both_primitives_keep_the_contract(launch: Launch, folder: Path) -> None:
    """clone and posix_spawn: the same report of the same program."""
    user = "nobody" if os.geteuid() == 0 else ME
    ports = {primitive: free_port() for primitive in ("clone", "posix_spawn", "auto")}
    text = "".join(
        entry(f"by-{primitive}", port, "/bin/sh", f"{ANSWER} one two", user=user, spawn_primitive=primitive, env="A=b")
        for primitive, port in ports.items()
    )
    launch(defaults() + text, prefix=unprivileged(folder), env={"SOME": "thing", **import_path()},
           command=MODULE)  # fmt: skip
    views = {primitive: view(ask(port)) for primitive, port in ports.items()}
    for primitive, seen in views.items():
        expect_common(seen)
        assert seen.argv == ["sh", str(PROBE), "answer", "one", "two"], primitive
        assert seen.variables() | {"A": "b", "SOME": "thing", "REMOTE_HOST": "127.0.0.1"} == seen.variables()
    ported = ("TCPREMOTEPORT", "REMOTE_PORT", "TCPLOCALPORT")
    plain = []
    for seen in views.values():
        whole = seen.comparable()
        whole["env"] = {key: value for key, value in seen.variables().items() if key not in ported}
        plain.append(whole)
    assert plain[0] == plain[1] == plain[2]


@pytest.mark.usefixtures("root")
def test_posix_spawn_says_what_it_cannot_do(launch: Launch) -> None:
    port, other = free_port(), free_port()
    text = entry("spawned", port, "/bin/cat", user="nobody", umask="077", spawn_primitive="posix_spawn")
    daemon = launch(defaults() + text + entry("other", other, "/bin/cat"))
    assert "posix_spawn" in daemon.said()
    assert not listens(port)
    assert ask(other, b"x") == b"x"


def test_a_failed_start_by_either_primitive(launch: Launch, folder: Path) -> None:
    """The client sees the end, the error is counted under its name."""
    gone = folder / "gone"
    gone.write_text("#!/nowhere/interpreter\n")
    gone.chmod(0o755)
    user = "nobody" if os.geteuid() == 0 else ME
    ports = {primitive: free_port() for primitive in ("clone", "posix_spawn")}
    text = "".join(entry(name, port, gone, user=user, spawn_primitive=name) for name, port in ports.items())
    daemon = launch(defaults() + text, prefix=unprivileged(folder), env=import_path(), metrics=True,
                    command=MODULE)  # fmt: skip
    for name, port in ports.items():
        assert [ask(port) for _ in range(3)] == [b""] * 3
        daemon.await_metric("fastinetd_spawn_failures_total", 3, service=name, errno="ENOENT")
        assert daemon.metric("fastinetd_children", service=name) == 0


def test_variables_of_the_connection(launch: Launch) -> None:
    """They describe this very connection; no file and no environment of the daemon's can say otherwise."""
    stale = dict.fromkeys(("REMOTE_HOST", "TCPREMOTEIP", "TCPREMOTEPORT", "TCPLOCALIP", "PROTO"), "stale")
    port = free_port()
    text = entry("vars", port, "/bin/sh", ANSWER, passenv="PATH PROTO", env="PROTO=forged PATH=/bin:/mine X=1")
    launch(defaults() + text, env=stale)
    with connect(port, source="127.0.0.44") as s:
        own = s.getsockname()[1]
        variables = view(read_all(s.dup())).variables()
    assert variables == {
        "PATH": "/bin:/mine", "X": "1", "PROTO": "TCP", "REMOTE_HOST": "127.0.0.44", "REMOTE_ADDR": "127.0.0.44",
        "REMOTE_PORT": str(own), "TCPREMOTEIP": "127.0.0.44", "TCPREMOTEPORT": str(own), "TCPLOCALIP": "127.0.0.1",
        "TCPLOCALPORT": str(port),
    }  # fmt: skip


def test_unix_socket_tells_whose_client_it_is(launch: Launch, folder: Path) -> None:
    path = f"{folder}/service.sock"
    service = Service("unix", path, "/bin/sh", ANSWER, more={"socket_mode": "0620", "passenv": ""})
    launch(defaults() + service.xinetd())
    seen = view(ask(path))
    expect_common(seen)
    variables = seen.variables()
    assert variables["IPCREMOTEEUID"] == str(os.geteuid())
    assert variables["IPCREMOTEEGID"] == str(os.getegid())
    assert "REMOTE_ADDR" not in variables
    assert Path(path).stat().st_mode & 0o777 == 0o620


def test_unix_socket_is_gone_after_the_end(launch: Launch, folder: Path) -> None:
    """And whatever lay there before, left by a daemon that was killed, does not keep it from starting."""
    path = f"{folder}/service.sock"
    with left_behind(path):
        pass
    daemon = launch(defaults() + Service("unix", path, "/bin/cat").xinetd())
    assert ask(path, b"x") == b"x"
    assert daemon.stop() == 0
    assert not Path(path).exists()


def left_behind(path: str) -> socket.socket:
    """A unix socket that stays in its folder when it is closed."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(path)
    return s


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_interface_by_name(launch: Launch) -> None:
    """Its addresses of both families."""
    port, datagram = free_port(), free_port()
    launch(
        defaults()
        + entry("cat", port, "/bin/cat", bind="lo")
        + entry("udp", datagram, "/bin/sh", "-c exec cat", bind="lo", socket_type="dgram", protocol="udp", wait="yes")
    )
    assert ask(port, b"four") == b"four"
    assert ask(port, b"six", host="::1") == b"six"
    assert listens(datagram, "udp")


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("family", ["IPv6", "both"])
def test_ipv6(launch: Launch, family: str) -> None:
    port = free_port()
    more = {"bind": "::1"} if family == "IPv6" else {"bind": "::", "flags": "IPv6"}
    launch(defaults() + entry("six", port, "/bin/sh", ANSWER, passenv="", **more))
    variables = view(ask(port, host="::1")).variables()
    assert variables["REMOTE_HOST"] == variables["TCPREMOTEIP"] == variables["TCPLOCALIP"] == "::1"
    if family == "both":
        variables = view(ask(port, source="127.0.0.8")).variables()
        assert variables["REMOTE_HOST"] == variables["TCPREMOTEIP"] == "127.0.0.8"


TOML = """
[defaults]
cps = "0 0"

[service.args]
type = "UNLISTED"
socket_type = "stream"
port = {port}
bind = ["127.0.0.1"]
wait = false
user = "{user}"
server = "/bin/sh"
server_args = ["{probe}", "answer", "with blank", "it's", ""]
env = {{ NAME = "some value" }}
instances = 1
umask = "007"
nice = 3
"""


def test_toml(launch: Launch) -> None:
    """Arguments and variables with blanks, which xinetd.conf cannot say."""
    port = free_port()
    launch(TOML.format(port=port, user=ME, probe=PROBE), kind="toml")
    seen = view(ask(port))
    expect_common(seen)
    assert seen.argv[2:5] == ["answer", "with blank", "it's"]
    assert seen.variables()["NAME"] == "some value"
    assert seen.nice == os.nice(0) + 3
    assert int(seen.status["Umask"], 8) == 0o007


def test_refused_datagram_is_dropped_alone(launch: Launch, folder: Path) -> None:
    """Those before and after it, of others, reach the server."""
    port = free_port()
    server = folder / "answer"
    server.write_text("#!/usr/bin/python3 -IS\nimport socket\ns = socket.socket(fileno=0)\n"
                      "data, peer = s.recvfrom(2000)\ns.sendto(b'got ' + data, peer)\n")  # fmt: skip
    server.chmod(0o755)
    more = {"socket_type": "dgram", "protocol": "udp", "wait": "yes", "no_access": "127.0.0.66"}
    daemon = launch(defaults() + entry("dgram", port, server, **more), metrics=True)
    with datagrams() as friend, datagrams("127.0.0.66") as stranger:
        for i in range(6):
            friend.sendto(b"%d" % i, ("127.0.0.1", port))
            stranger.sendto(b"never", ("127.0.0.1", port))
        assert sorted(friend.recv(100) for _ in range(6)) == [b"got %d" % i for i in range(6)]
    daemon.await_metric("fastinetd_connections_rejected_total", 6, reason="address")
    daemon.await_metric("fastinetd_child_exits_total", 6, status="success")


def test_accepting_server_that_never_accepts(launch: Launch, folder: Path) -> None:
    """stream wait: it is started again after a growing pause, others go on, and the client is served in the end."""
    port, other, good, starts = free_port(), free_port(), folder / "good", folder / "starts"
    server = folder / "lazy"
    server.write_text(
        f"#!/bin/sh\necho x >>{starts}\n[ -e {good} ] || exit 0\n"
        "exec python3 -IS -c 'import socket; c, _ = socket.socket(fileno=0).accept(); c.sendall(b\"at last\")'\n"
    )
    server.chmod(0o755)
    daemon = launch(defaults() + entry("lazy", port, server, wait="yes") + entry("other", other, "/bin/cat"))
    with connect(port) as client:
        wait_for(lambda: starts.exists() and len(starts.read_text().split()) >= 4, "four starts")
        before = len(starts.read_text().split())
        for i in range(50):
            assert ask(other, b"%d" % i) == b"%d" % i
        assert len(starts.read_text().split()) - before < 50
        good.touch()
        assert read_all(client.dup(), 60) == b"at last"
    assert daemon.unhandled() == []


HOSTILE = """
import ctypes, os, platform, signal, struct, sys
rt_sigaction = {"x86_64": 13, "aarch64": 134}[platform.machine()]
ignore = struct.pack("QQQQ", int(signal.SIG_IGN), 0, 0, 0)
for number in range(1, 65):  # libc would not touch 32 and 33
    ctypes.CDLL(None).syscall(rt_sigaction, number, ignore, None, 8)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
if os.geteuid() == 0:
    os.setgroups([])  # those of a login are more than a service of root's has, and posix_spawn can change none
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts a program with every signal ignored and blocked."""


def test_signals_of_whoever_started_the_daemon(launch: Launch, folder: Path) -> None:
    """However that one had them: the daemon hears its own, and every kind of server has all as a fresh process has."""
    ports = {name: free_port() for name in ("clone", "posix_spawn", "wait")}
    text = "".join(
        entry(name, ports[name], "/bin/sh", ANSWER, user=ME, spawn_primitive=name) for name in ("clone", "posix_spawn")
    )
    report = folder / "report"
    text += entry("wait", ports["wait"], "/bin/sh", f"{PROBE} accept {report}", wait="yes")
    daemon = launch(defaults() + text, prefix=[sys.executable, "-c", HOSTILE])
    views = [view(ask(ports[name])) for name in ("clone", "posix_spawn")]
    with connect(ports["wait"]):
        wait_for(report.exists, "the wait server's report")
    for seen in [*views, view(report.read_bytes())]:
        assert {int(seen.status[name], 16) for name in ("SigBlk", "SigIgn", "SigPnd", "ShdPnd")} == {0}
    daemon.reload()
    assert daemon.stop() == 0
