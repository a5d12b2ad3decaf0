"""The state dump: xinetd's layout, nothing secret, and a file nobody can turn against us."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fastinetd.config.model import UNLIMITED, LogKind, LogType, Place, Rate, Service
from fastinetd.control.dump import (
    DUMP_PATH,
    DumpState,
    ServerLine,
    ServiceLine,
    ServiceState,
    describe_failure,
    render_dump,
    write_dump,
)

WEB = Service(
    name="web",
    id="web-by-id",
    place=Place("x.conf", 1),
    flags=frozenset({"NODELAY", "KEEPALIVE"}),
    port=8080,
    user="nobody",
    server="/usr/sbin/webd",
    argv=("webd", "-v"),
    env=(("SECRET", "hunter2"), ("LANG", "C")),
    umask=0o27,
    rlimits={"cpu": 10, "files": UNLIMITED},
    instances=5,
    rate=Rate(50, 1.0, 10),
    only_from=("127.0.0.0/8", ".example.com"),
    access_times=((8 * 60, 17 * 60 + 30),),
    log_type=LogType(LogKind.FILE, path="/var/log/web.log"),
    log_on_success=frozenset({"PID", "HOST"}),
)
PLAIN = Service(
    name="time", id="time", place=Place("x.conf", 9), types=frozenset({"INTERNAL"}), socket_type="dgram", wait=True
)
STATE = DumpState(
    version="1.0",
    now=1_790_000_000,
    config_file="/etc/xinetd.conf",
    services=(
        ServiceLine(WEB, ServiceState.ACTIVE, running=2, descriptors=(64, 65), ids=(1234, 1234), waits=7, waited=1.5,
                    awaits_rate=True),
        ServiceLine(PLAIN, ServiceState.SUSPENDED, port=37),
    ),
    servers=(ServerLine("web-by-id", 4711, 1_790_000_000, "192.0.2.7", 40000), ServerLine("time", 4712, 0)),
    roles=(("supervisor", 100), ("acceptor", 101)),
    max_descriptors=1024,
    descriptors_free=1000,
)


def test_layout() -> None:
    text = render_dump(STATE)
    lines = text.splitlines()
    assert lines[0] == "INTERNAL STATE DUMP: fastinetd 1.0"
    assert re.fullmatch(r"Current time: \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d 2026", lines[1])
    assert lines[-1] == "END OF DUMP" and text.endswith("\n")
    heads = [line for line in lines if line and not line.startswith("\t")]
    assert heads[2:] == [
        "Services + defaults:",
        "Service = web",
        "Service = time",
        "Server table dump:",
        "web-by-id server",
        "pid = 4711",
        f"start_time = {time.ctime(1_790_000_000)}",
        "Connection info:",
        "time server",
        "pid = 4712",
        f"start_time = {time.ctime(0)}",
        "Connection info:",
        "Retry table dump:",
        "supervisor = 100",
        "acceptor = 101",
        "active_services = 1",
        "available_services = 2",
        "descriptors_free = 1000",
        "running_servers = 2",
        "Logging service = enabled",
        "lost_records = 0",
        "max_descriptors = 1024",
        "process_limit = 0",
        "config_file = /etc/xinetd.conf",
        "END OF DUMP",
    ]


def test_a_service() -> None:
    lines = render_dump(replace(STATE, services=STATE.services[:1])).splitlines()
    shown = lines[lines.index("Service = web") + 1 : lines.index("Server table dump:")]
    inner = [line.removeprefix("\t\t") for line in shown if line.startswith("\t\t")]
    outer = [line.removeprefix("\t") for line in shown if not line.startswith("\t\t")]
    assert outer == [
        "State = Active",
        "Service configuration: web",
        "running servers = 2",
        "retry servers = 0",
        "service fd = 64 65",
        "",
    ]
    assert inner == [
        "id = web-by-id",
        "flags = KEEPALIVE NODELAY",
        "socket_type = stream",
        "Protocol (name,number) = (tcp,6)",
        "port = 8080",
        "Instances = 5",
        "wait = no",
        "user = 1234",
        "Groups = no",
        "umask = 27",
        "CPS = max conn:50 wait:10",
        "over_rate = wait",
        "Waited for CPS = 7 clients, 1.5 seconds, and clients do now",
        "PER_SOURCE = -1",
        "Bind = All addresses.",
        "Server = /usr/sbin/webd",
        "Server argv = webd -v",
        "Resource limits = cpu:10 files:UNLIMITED",
        "Access times = 08:00-17:30",
        "Only from: 127.0.0.0/8 .example.com",
        "No access: No blocked sites",
        "Logging to file: /var/log/web.log (no limits)",
        "Log_on_success flags = HOST PID",
        "Log_on_failure flags =",
        "Environment names = SECRET LANG",
    ]


def test_pools() -> None:
    """A line more for a service that asks for one; exec is what xinetd does, and needs none."""
    prefork = replace(WEB, spawn="prefork", snapshot="first_io")
    worker = replace(WEB, spawn="worker", handler="pages:serve", server=None, argv=())
    for service, refused, expected in (
        (prefork, None, ["Spawn = prefork", "Snapshot = first_io"]),
        (prefork, "static", ["Spawn = prefork (refused, by exec: static)", "Snapshot = first_io"]),
        (worker, None, ["Spawn = worker", "Handler = pages:serve"]),
        (WEB, None, []),
        (replace(PLAIN, spawn="zygote"), None, []),
    ):
        text = render_dump(replace(STATE, services=(ServiceLine(service, ServiceState.ACTIVE, refused=refused),)))
        found = [line.strip() for line in text.splitlines() if re.match(r"\t\t(Spawn|Snapshot|Handler) = ", line)]
        assert found == expected


def test_where_programs_are_held() -> None:
    held = ((2, "first_use", "read"), (1, "early", "alarm"), (1, "at_start", "eventfd2"), (1, "main", ""))
    service = replace(WEB, spawn="zygote", snapshot="first_io")
    text = render_dump(replace(STATE, services=(ServiceLine(service, ServiceState.ACTIVE, held=held),)))
    assert [line.strip() for line in text.splitlines() if line.startswith("\t\tHeld = ")] == [
        "Held = 2 at read, the first use of the connection",
        "Held = 1 at alarm, early: a fork would not copy it",
        "Held = 1 at eventfd2, early: nothing is gained over main",
        "Held = 1 at main",
    ]


def test_a_built_in_service() -> None:
    text = render_dump(replace(STATE, services=STATE.services[1:]))
    for part in (
        "State = Suspended",
        "port = 37",
        "Server = internal",
        "Only from: All sites",
        "No logging",
        "service fd = none",
    ):
        assert f"\t{part}\n" in text


def test_a_list_that_refuses_everybody_is_not_all_sites() -> None:
    assert "Only from: (empty list)" in render_dump(
        DumpState("1", 0, "x", services=(ServiceLine(replace(WEB, only_from=()), ServiceState.ACTIVE),))
    )


def test_running_servers() -> None:
    text = render_dump(STATE)
    assert "\npid = 4711\nstart_time = " in text
    assert "\tremote_address = 192.0.2.7,40000\n" in text
    assert text.count("No remote address") == 1


def test_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALSO_SECRET", "hunter3")
    text = render_dump(STATE)
    assert "hunter2" not in text and "hunter3" not in text and "ALSO_SECRET" not in text


def test_values_cannot_forge_lines() -> None:
    odd = replace(WEB, name="a\nEND OF DUMP", argv=("x\ny",))
    text = render_dump(replace(STATE, services=(ServiceLine(odd, ServiceState.ACTIVE),)))
    assert text.splitlines().count("END OF DUMP") == 1


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.dump"
    write_dump(str(path), "one\n")
    write_dump(str(path), "two\udcff\n")
    assert path.read_text() == "two\\udcff\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert "dump" in DUMP_PATH


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_are_replaced_not_followed(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    victim, path = tmp_path / "shadow", tmp_path / "x.dump"
    victim.write_text("precious")
    link(victim, path)
    write_dump(str(path), "text")
    assert victim.read_text() == "precious"
    assert path.read_text() == "text" and not path.is_symlink()


def test_a_trap_under_the_temporary_name(tmp_path: Path) -> None:
    victim = tmp_path / "shadow"
    victim.write_text("precious")
    (tmp_path / f".x.dump.{os.getpid()}").symlink_to(victim)
    write_dump(str(tmp_path / "x.dump"), "text")
    assert victim.read_text() == "precious"


def test_failures_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x.dump").mkdir()
    with pytest.raises(IsADirectoryError):
        write_dump(str(tmp_path / "x.dump"), "text")
    with pytest.raises(FileNotFoundError):
        write_dump(str(tmp_path / "none" / "x.dump"), "text")
    assert [p.name for p in tmp_path.iterdir()] == ["x.dump"]


def test_a_dump_that_cannot_be_written_says_what_to_do() -> None:
    said = describe_failure("/run/x.dump", PermissionError(errno.EPERM, ""))
    assert said == (
        "cannot write the state dump to /run/x.dump: Operation not permitted (errno = 1); "
        "only a daemon that root has started can"
    )
    assert describe_failure("/run/x.dump", OSError(errno.ENOSPC, "")).endswith("; mend that and send SIGUSR1 again")
