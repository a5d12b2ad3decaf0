"""What init scripts and administrators look a daemon up with finds this one, by its name and by its executable file.

Each test is a shell script in namespaces of its own, where the command is /usr/sbin/xinetd, in the place of Debian's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.daemon import COMMAND, environment
from support.lacking import missing
from support.texts import defaults, entry

NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation",
              "private"]  # fmt: skip
CANNOT = 77
PORTS = (17001, 17002)
INIT = "/etc/init.d/xinetd"

PACKAGES = {
    "start-stop-daemon": "dpkg", "pidof": "sysvinit-utils", "pgrep": "procps", "killall": "psmisc",
    "update-inetd": "update-inetd", INIT: "xinetd", "ip": "iproute2",
}  # fmt: skip
"""Which Debian package has a program."""

BEGIN = """
mount -t tmpfs none /run && ip link set lo up || exit 77
mkdir /run/there /run/sbin
mount --bind /usr/sbin /run/there
ln -s /run/there/* /run/sbin
ln -sf "$1" /run/sbin/xinetd
ln -sf "$1" /run/sbin/inetd
mount --bind /run/sbin /usr/sbin
cat "$2" >/run/conf
if [ -e /etc/xinetd.conf ]; then mount --bind /run/conf /etc/xinetd.conf; fi
until_true() { # COMMAND..., for half a minute
    end=$((SECONDS + 30))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || { echo "never: $*"; exit 1; }
        sleep 0.02
    done
}
answers() { # PORT
    exec 5<>"/dev/tcp/127.0.0.1/$1" && echo x >&5 && read -r -t 9 answer <&5 && exec 5>&- && [ "$answer" = x ]
} 2>/dev/null
pid() { [ -s /run/xinetd.pid ] && cat /run/xinetd.pid; }
another() { [ -s /run/xinetd.pid ] && [ "$(pid)" != "$1" ]; }
gone() { [ ! -d "/proc/$1" ]; }
reload_is_ready() { sed s/17001/17002/ /run/conf >/run/fresh && cat /run/fresh >/run/conf; } # it is mounted
start() { xinetd -f /run/conf -pidfile /run/xinetd.pid -filelog /run/log "$@" && answers 17001; }
"""

CONF = defaults() + entry("cat", PORTS[0], "/bin/cat")


Inside = Callable[..., list[str]]


@pytest.fixture
def inside(root: None, need: Callable[[str], str], folder: Path) -> Inside:
    """Run a script of bash; returns the lines of its output. `programs` are what it needs."""
    path = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"

    def run(script: str, *programs: str) -> list[str]:
        for program in (need("unshare"), "ip", *programs):
            if shutil.which(program, path=path) is None:
                missing(f"{program} is not installed (Debian's {PACKAGES[program]})")
        (folder / "conf").write_text(CONF)
        argv = [*NAMESPACES, need("bash"), "-c", BEGIN + script, "bash", COMMAND, str(folder / "conf")]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120,
                              env=environment({"PATH": path, "DEBIAN_FRONTEND": "noninteractive"}))  # fmt: skip
        if done.returncode == CANNOT or (done.returncode and done.stderr.startswith("unshare:")):
            pytest.skip(f"no namespaces here: {done.stderr.strip()}")
        assert done.returncode == 0, done
        return done.stdout.splitlines()

    return run


def test_by_name(inside: Inside) -> None:
    """One process has the name that the command was started under."""
    script = 'start || exit; [ "$(pidof xinetd)" = "$(pid)" ]; echo $?; [ "$(pgrep -x xinetd)" = "$(pid)" ]; echo $?'
    assert inside(script, "pidof", "pgrep") == ["0", "0"]


def test_killall(inside: Inside) -> None:
    """`killall -HUP` is a reload."""
    script = """
start || exit
P=$(pid)
reload_is_ready
killall -HUP xinetd; until_true answers 17002
killall -QUIT xinetd; until_true gone "$P"
echo done
"""
    assert inside(script, "killall") == ["done"]


@pytest.mark.parametrize("pidfile", ["--pidfile /run/xinetd.pid", ""])
def test_start_stop_daemon(inside: Inside, pidfile: str) -> None:
    """With the pid file it acts on the supervisor, by the file alone on every process of the daemon: both mean the
    same. What is there is not started again."""
    by = f"{pidfile} --exec /usr/sbin/xinetd"
    script = f"""
start-stop-daemon --start --quiet {by} -- -f /run/conf -pidfile /run/xinetd.pid -filelog /run/log && answers 17001
P=$(pid)
start-stop-daemon --start --quiet {by} -- -f /run/conf; echo "again $?"
start-stop-daemon --status {by}; echo "status $?"
reload_is_ready
start-stop-daemon --stop --signal HUP --quiet {by}; echo "reload $?"
until_true answers 17002
[ "$(pid)" = "$P" ]; echo "the same $?"
start-stop-daemon --stop --quiet --retry TERM/20 {by}; echo "stop $?"
until_true gone "$P"
start-stop-daemon --status {by}; echo "status $?"
"""
    assert inside(script, "start-stop-daemon") == [
        "again 1", "status 0", "reload 0", "the same 0", "stop 0", "status 3",
    ]  # fmt: skip


def test_debians_init_script(inside: Inside) -> None:
    """Start, status, reload, restart and stop, as it is, with its own options."""
    script = f"""
exec 2>/dev/null
{INIT} start >/dev/null; echo "start $?"
until_true another ""
until_true answers 17001
P=$(pid)
{INIT} status >/dev/null; echo "status $?"
reload_is_ready
{INIT} reload >/dev/null; echo "reload $?"
until_true answers 17002
[ "$(pid)" = "$P" ]; echo "the same $?"
for each in 1 2 3; do
    {INIT} restart >/dev/null; echo "restart $?"
    until_true another "$P"
    until_true gone "$P"
    until_true answers 17002
    P=$(pid)
done
{INIT} stop >/dev/null; echo "stop $?"
until_true gone "$P"
{INIT} status >/dev/null; echo "status $?"
"""
    assert inside(script, INIT, "start-stop-daemon") == [
        "start 0", "status 0", "reload 0", "the same 0", *["restart 0"] * 3, "stop 0", "status 3",
    ]  # fmt: skip


def test_update_inetd(inside: Inside) -> None:
    """It wakes the process of /run/inetd.pid, if that is called inetd: a link of this name is all it takes."""
    script = """
cp -a /var/cache/debconf /run/debconf && mount --bind /run/debconf /var/cache/debconf || exit 77
echo '127.0.0.1:17001 stream tcp nowait root /bin/cat cat' >/run/inetd.conf
inetd --inetd /run/inetd.conf -pidfile /run/inetd.pid -filelog /run/log && answers 17001 || exit
line='127.0.0.1:17002\\tstream\\ttcp\\tnowait\\troot\\t/bin/cat\\tcat'
update-inetd --file /run/inetd.conf --add \"$line\" >/dev/null 2>&1
until_true answers 17002
answers 17001 && echo done
"""
    assert inside(script, "update-inetd") == ["done"]
