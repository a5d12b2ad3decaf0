"""The unit of contrib/ and Red Hat's of xinetd, under a systemd that has really booted."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.booted import Booted
from support.clients import read_all, read_line
from support.lacking import missing
from support.proc import wait_for
from support.reach import ROOT, closed_to_others
from support.texts import Service

UNIT = "fastinetd.service"
CONF = "/etc/fastinetd/fastinetd.toml"
CAT = Service("cat", 7001, "/bin/cat", user="nobody")
OTHER = Service("other", 7002, "/bin/cat", user="nobody")
COMMAND = f"""#!/bin/sh
exec {sys.executable} -m fastinetd "$@"
"""
WATCHED = """[Service]
WatchdogSec=5
Environment=PYTHONPATH={folder}
"""
BUSY = """import os, re, threading

def loop():
    open("{fifo}").read()
    re.match("(a+)+$", "a" * 64 + "b")  # for years, and nothing else of the process runs meanwhile

if os.path.exists("{fifo}"):
    threading.Thread(target=loop, daemon=True).start()
"""
RED_HAT = """[Unit]
Description=Xinetd A Powerful Replacement For Inetd
After=syslog.target network.target

[Service]
Type=forking
PIDFile=/var/run/xinetd.pid
EnvironmentFile=-/etc/sysconfig/xinetd
ExecStart=/usr/sbin/xinetd -stayalive -pidfile /var/run/xinetd.pid "$EXTRAOPTIONS"
ExecReload=/usr/bin/kill -HUP $MAINPID

[Install]
WantedBy=multi-user.target
"""
"""As Red Hat's xinetd has it."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Booted]:
    for program in ("systemd-nspawn", "nsenter", "unshare"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    if os.geteuid() != 0:
        missing("needs root")
    if why := closed_to_others():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="fastinetd."))
    folder.chmod(0o755)
    booted = Booted(folder)
    try:
        if why := booted.why_not():
            pytest.skip(f"no container can be booted here: {why}")  # CI may itself run in a container
        booted.write("/usr/local/bin/fastinetd", COMMAND)
        booted.run("chmod", "755", "/usr/local/bin/fastinetd")
        booted.write(f"/etc/systemd/system/{UNIT}", (ROOT / "contrib" / UNIT).read_text())
        booted.write(f"/etc/systemd/system/{UNIT}.d/tests.conf", WATCHED.format(folder=folder))
        (folder / "sitecustomize.py").write_text(BUSY.format(fifo=folder / "busy"))
        yield booted
    finally:
        booted.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def unit(machine: Booted) -> Iterator[Booted]:
    """The unit, started with one service; nothing of it is left afterwards."""
    configure(machine, CAT)
    start(machine, UNIT)
    yield machine
    machine.systemctl("stop", UNIT)
    wait_for(lambda: not machine.processes_of(UNIT), lambda: f"gone: {machine.processes_of(UNIT)}")


def configure(machine: Booted, *services: Service) -> None:
    machine.write(CONF, "".join(service.toml() for service in services))


def start(machine: Booted, unit: str) -> None:
    machine.systemctl("daemon-reload")
    machine.systemctl("reset-failed", unit)
    done = machine.systemctl("start", unit)
    assert done.returncode == 0, done.stderr + machine.systemctl("status", unit).stdout


def session(machine: Booted, port: int = 7001) -> socket.socket:
    """A client that is served by cat, and stays."""
    client = machine.connect(port)
    assert talks(client)
    return client


def talks(client: socket.socket) -> bool:
    client.sendall(b"still here\n")
    return read_line(client) == b"still here\n"


def end(*clients: socket.socket) -> None:
    for client in clients:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


def listens(machine: Booted, port: int) -> bool:
    try:
        machine.connect(port).close()
    except ConnectionRefusedError:
        return False
    return True


def told(machine: Booted, *options: str) -> str:
    """What the journal has of the unit's present or last run."""
    run = machine.shows(UNIT, "InvocationID")
    return machine.run("journalctl", "--no-pager", "--output", "cat", f"_SYSTEMD_INVOCATION_ID={run}", *options).stdout


def test_started_is_listening(unit: Booted) -> None:
    client = session(unit)
    assert unit.shows(UNIT, "StatusText") == "1 service"
    end(client)


def stop(machine: Booted) -> None:
    machine.run("kill", "-STOP", machine.shows(UNIT, "MainPID"))


def busy(machine: Booted) -> None:
    (machine.folder / "busy").write_text("go")


@pytest.mark.slow
@pytest.mark.parametrize("hang", [stop, busy])
def test_a_daemon_that_hangs_is_replaced(machine: Booted, request: pytest.FixtureRequest,
                                         hang: Callable[[Booted], None]) -> None:  # fmt: skip
    """By a new one, which serves; sessions go on, and new clients are served until the old one is killed."""
    os.mkfifo(machine.folder / "busy")
    request.addfinalizer((machine.folder / "busy").unlink)
    unit: Booted = request.getfixturevalue("unit")
    before = unit.shows(UNIT, "MainPID")
    first = session(unit)
    hang(unit)
    second = session(unit)
    wait_for(lambda: unit.shows(UNIT, "NRestarts") == "1", lambda: unit.systemctl("status", UNIT).stdout)
    wait_for(lambda: unit.shows(UNIT, "ActiveState") == "active", lambda: unit.systemctl("status", UNIT).stdout)
    assert unit.shows(UNIT, "MainPID") not in (before, "0")
    third = session(unit)
    assert talks(first) and talks(second)
    end(first, second, third)


def test_a_reload_that_is_refused_fails(unit: Booted) -> None:
    """The reason is with the unit's state, as an error, and what was served goes on."""
    client = session(unit)
    unit.write(CONF, CAT.toml().replace("stream", "strem") + OTHER.toml())
    done = unit.systemctl("reload", UNIT)
    assert done.returncode == 1
    why = "socket_type cannot be 'strem'; write stream or dgram"
    assert why in unit.systemctl("status", UNIT).stdout
    journal = unit.run("journalctl", "--no-pager", "--unit", UNIT, "--priority", "err", "--output", "cat").stdout
    assert re.search(rf"^{CONF}:\d+:\d+: error: {re.escape(why)}$", journal, re.MULTILINE), journal
    assert unit.shows(UNIT, "ActiveState") == "active"
    assert not listens(unit, 7002)
    again = session(unit)
    assert talks(client)
    end(client, again)


def test_a_reload_returns_when_it_is_done(unit: Booted) -> None:
    """Also if the daemon is slow to begin."""
    configure(unit, CAT, OTHER)
    main = unit.shows(UNIT, "MainPID")
    script = """kill -STOP $1
        systemctl reload $2 & job=$!
        told() { grep -q '^ShdPnd:.*[13579bdf]$' /proc/$1/status && [ "$(systemctl show -P ControlPID $2)" = 0 ]; }
        until told $1 $2; do :; done
        systemctl show -P ActiveState $2
        kill -CONT $1; wait $job"""
    done = unit.run("sh", "-c", script, "sh", main, UNIT)
    client = session(unit, 7002)
    assert done.stdout == "reloading\n", done
    assert unit.shows(UNIT, "StatusText") == "2 services"
    end(client)


def test_a_stop_leaves_servers_alone_and_nothing_else(unit: Booted) -> None:
    """They end by themselves, and do not keep the unit from being started."""
    client = session(unit)
    assert unit.systemctl("stop", UNIT).returncode == 0
    assert unit.shows(UNIT, "Result") == "success"
    left = [unit.run("cat", f"/proc/{pid}/comm").stdout for pid in unit.processes_of(UNIT)]
    assert left == ["cat\n"]
    assert not listens(unit, 7001)
    start(unit, UNIT)
    again = session(unit)
    assert talks(client)
    end(client, again)


def test_messages_have_their_priority(unit: Booted) -> None:
    assert "Started working: 1 available service\n" in told(unit, "PRIORITY=6")
    unit.write(CONF, "nonsense")
    unit.run("kill", "-HUP", unit.shows(UNIT, "MainPID"))
    why = f"reconfiguration failed: the configuration in use is kept; mend {CONF}\n"
    wait_for(lambda: why in told(unit, "PRIORITY=3"), lambda: told(unit))
    assert unit.shows(UNIT, "StatusText") == "1 service; the last reload was refused, as the log says why"
    unit.write("/etc/systemd/system/wrong.service", "[Service]\nExecStart=/usr/local/bin/fastinetd --unheard-of\n")
    unit.systemctl("start", "wrong.service")
    said = ["journalctl", "--no-pager", "--unit=wrong.service", "PRIORITY=2", "--output=cat"]
    wait_for(lambda: "--unheard-of" in unit.run(*said).stdout, lambda: unit.run(*said[:-2]).stdout)


def test_red_hats_unit_of_xinetd(machine: Booted) -> None:
    """With the program replaced and nothing else: the command returns, the pid file is right, sessions are told."""
    unit = "xinetd.service"
    machine.write("/usr/sbin/xinetd", COMMAND)
    machine.run("chmod", "755", "/usr/sbin/xinetd")
    machine.write("/etc/xinetd.conf", Service("cat", 7003, "/bin/cat", user="nobody").xinetd())
    machine.run("rm", "-f", CONF)
    machine.write(f"/etc/systemd/system/{unit}", RED_HAT)
    start(machine, unit)
    main = machine.shows(unit, "MainPID")
    assert machine.run("cat", "/run/xinetd.pid").stdout == f"{main}\n"
    journal = ["journalctl", "--no-pager", "--unit", unit, "--identifier", "xinetd", "--output", "cat"]
    wait_for(lambda: "Started working" in machine.run(*journal).stdout, lambda: machine.run(*journal).stdout)
    said = machine.run(*journal).stdout.splitlines()
    assert len(said) == len({*said}) >= 3, said
    client = session(machine, 7003)
    machine.write("/etc/xinetd.conf", Service("cat", 7004, "/bin/cat", user="nobody").xinetd())
    assert machine.systemctl("reload", unit).returncode == 0
    wait_for(lambda: listens(machine, 7004), "the new service listens")
    assert talks(client)
    end(client)
    assert machine.systemctl("stop", unit).returncode == 0
    assert machine.shows(unit, "Result") == "success"
    assert machine.processes_of(unit) == []
