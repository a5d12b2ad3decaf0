"""Root without some of its capabilities, or in a user namespace of few ids: what can be served is served, the rest is
told beforehand, and every role stays alive."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from adversity.harm import CAT, builtin

from support.clients import ask, connect, free_port
from support.daemon import Daemon, Launch
from support.lacking import need_localhost
from support.proc import listeners, wait_for
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")
WITHOUT = ("relay", "doorman", "monitor")


def lacking(*capabilities: str) -> list[str]:
    """The prefix of a command that is to be without these."""
    names = ",".join(f"-{name}" for name in capabilities)
    return ["setpriv", f"--bounding-set={names}", f"--inh-caps={names}"]


IN_GROUPS = ["setpriv", "--groups=0,4"]
MAPPED = ["unshare", "--user", "--map-root-user"]
SECUREBITS = ["setpriv", "--securebits=+no_setuid_fixup,+keep_caps_locked"]


def may_begin_with(prefix: Sequence[str]) -> None:
    """A user namespace cannot be made in a changed root, nor where the machine forbids it."""
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.strip())


def denied(name: str, error: int = errno.EPERM) -> list[str]:
    """The prefix of a command that is not to have this system call."""
    command = ["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-"]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=True)
    found = re.search(rf"#define __NR_{name} (\d+)", done.stdout)
    assert found
    return [sys.executable, str(Path(__file__).parents[1] / "support" / "denied.py"), str(error), found[1]]


HANDS_ON = ["setpriv", "--inh-caps=+net_raw,+kill", "--ambient-caps=+net_raw,+kill", "--securebits=+no_setuid_fixup"]


@pytest.mark.parametrize("prefix", [HANDS_ON, HANDS_ON[:2], HANDS_ON[:3]], ids=["both", "inheritable", "ambient"])
def test_others_have_none_of_the_daemons_capabilities(launch: Launch, prefix: list[str]) -> None:
    """Whatever the daemon was started with for the programs it executes: they are root's. Servers of other users have
    nothing of it, not even where a change of ids leaves capabilities alone."""
    may_begin_with(prefix)
    ports = [free_port() for _ in range(4)]
    told = {"server": "/bin/cat", "args": "/proc/self/status"}
    daemon = launch(
        defaults() + entry("other", ports[0], **told, user="nobody") + entry("root", ports[1], **told, user="root")
        + entry("pool", ports[2], **told, user="nobody", spawn="zygote")
        + entry("wait", ports[3], "/bin/sleep", "1000", user="nobody", wait="yes"), prefix=prefix,
    )  # fmt: skip
    for port in (ports[0], ports[2]):
        text = ask(port).decode()
        assert {name: text.partition(f"{name}:\t")[2][:16] for name in SETS} == dict.fromkeys(SETS, "0" * 16)
    with connect(ports[3]):
        wait_for(daemon.servers, "it runs")
        assert {status(daemon.servers()[0], name) for name in SETS} == {"0" * 16}
    assert f"CapInh:\t{1 << 13 | 1 << 5:016x}" in ask(ports[1]).decode()


def status(pid: int, field: str) -> str:
    found = re.search(rf"^{field}:[ \t]*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return found[1]


def check(path: Path, prefix: Sequence[str]) -> str:
    command = [*prefix, sys.executable, "-m", "fastinetd", "-f", str(path), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize(("prefix", "others", "codes"), [
    (lacking("setuid"), False, ("CAP_SETUID", "leave root behind")),
    (lacking("setgid"), False, ("CAP_SETGID", "leave root's groups behind")),
    (lacking("kill"), True, ("told to end: the daemon is without CAP_KILL",)),
    (lacking("all"), False, ("CAP_SETUID", "leave root behind")),
    (lacking("setpcap", "sys_resource", "dac_override", "dac_read_search", "chown", "fowner", "sys_nice", "sys_admin",
             "sys_ptrace", "net_bind_service", "net_raw", "ipc_lock", "sys_rawio", "net_admin"), True, ()),
    (MAPPED, False, ("uid 65534 is not mapped", "leave root behind")),
    (["setpriv", "--no-new-privs"], True, ()),
    pytest.param(denied("setresuid"), False, (r"setresuid\(2\); allow it \(Sys", "leave root behind"), id="setresuid"),
    pytest.param([*IN_GROUPS, *denied("setresuid")], False, ("leave root behind",), id="setresuid-in-groups"),
    pytest.param(denied("setresgid"), False, (r"call setresgid\(2\); allow it", "leave root's groups"), id="setresgid"),
    pytest.param(denied("setgroups"), False, (r"call setgroups\(2\); allow it", "leave root's groups"), id="setgroups"),
    (SECUREBITS, True, ()),
], ids=lambda value: "-".join(value).replace("=", "") if isinstance(value, list) else None)  # fmt: skip
def test_serves_what_it_can(
    launch: Launch, need: Callable[[str], str], folder: Path, prefix: list[str], others: bool, codes: Sequence[str]
) -> None:
    need(prefix[0])
    need_localhost()
    may_begin_with(prefix)
    own, nobodys, echo, named = (free_port() for _ in range(4))
    text = (
        defaults() + entry("own", own, CAT, user="root") + entry("nobodys", nobodys, CAT, user="65534")
        + builtin("echo", echo) + entry("named", named, CAT, user="root", only_from="localhost")
    )  # fmt: skip
    daemon = launch(text, metrics=True, prefix=prefix)
    said = check(daemon.conf, prefix)
    for code in codes:
        assert re.search(code, said), said
        assert re.search(code, daemon.said()), daemon.said()
    if not others:
        place = text[: text.index("user = 65534")].count("\n") + 1
        assert re.search(rf":{place}:12: error: service nobodys cannot have ", said), said
    for port in (own, echo, named):
        assert ask(port, b"hello\n") == b"hello\n"
    assert (nobodys in listeners()) == others
    if others:
        assert ask(nobodys, b"hello\n") == b"hello\n"
    _roles_hold(daemon)


@pytest.mark.parametrize(("prefix", "told"), [
    (denied("close_range"), r"may not call close_range\(2\) \(EPERM\); allow it \(SystemCallFilter="),
    (denied("close_range", errno.ENOSYS), r"has no close_range\(2\) \(ENOSYS\): use Linux 5.9 or later"),
    (denied("pidfd_open"), r"may not call pidfd_open\(2\) \(EPERM\); allow it"),
    (denied("pidfd_send_signal"), r"may not call pidfd_send_signal\(2\) \(EPERM\); allow it"),
    (denied("timer_create"), r"may not call timer_create\(2\) \(EPERM\); allow it"),
    (denied("timer_settime"), r"may not call timer_settime\(2\) \(EPERM\); allow it"),
    (denied("memfd_create", errno.EACCES), r"may not call memfd_create\(2\) \(EACCES\); allow it"),
    (denied("capset"), r"may not call capset\(2\) \(EPERM\); allow it"),
    (["prlimit", "--nofile=70"], r"no more than 70 descriptors may be open; allow at least 80 \(ulimit -n"),
    (["unshare", "--fork", "--pid", "--kill-child"], r"/proc is of another PID namespace.*mount -t proc proc /proc"),
], ids=["close_range", "old", "pidfd_open", "pidfd_send_signal", "timer_create", "timer_settime", "memfd", "capset",
        "descriptors", "proc"])  # fmt: skip
def test_what_it_cannot_do_without(folder: Path, need: Callable[[str], str], prefix: list[str], told: str) -> None:
    """The start says so in one line, with the remedy, and ends; --check says the same."""
    need(prefix[0])
    may_begin_with(prefix)
    path = folder / "x.conf"
    path.write_text(defaults() + entry("own", free_port(), CAT))
    command = [*prefix, sys.executable, "-m", "fastinetd", "-f", str(path), "-dontfork"]
    start = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (start.returncode, start.stderr.count("\n")) == (1, 1), start
    assert re.search(told, start.stderr), start.stderr
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 1
    assert re.search(f"error: .*{told}", checked.stdout), checked.stdout


def _roles_hold(daemon: Daemon) -> None:
    """None has died, and those that read strangers' words have no capability, whoever they are."""
    assert "takes its place" not in daemon.said()
    daemon.await_metric("fastinetd_children", 0)  # a client reads the end before its server is reaped
    roles = daemon.roles()
    for kind in WITHOUT:
        for field in SETS:
            assert int(status(roles[kind], field), 16) == 0, (kind, field)
        assert status(roles[kind], "NoNewPrivs") == "1"


def test_a_port_below_1024(launch: Launch, need: Callable[[str], str], folder: Path) -> None:
    need("setpriv")
    path = folder / "low.conf"
    path.write_text(defaults() + entry("low", 79, CAT))
    assert "low" not in [line.split()[2] for line in check(path, []).splitlines() if "cannot listen" in line]
    said = check(path, lacking("net_bind_service"))
    if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() != "0":
        assert re.search(r":13:12: warning: service low cannot listen on port 79: .*CAP_NET_BIND_SERVICE", said), said
