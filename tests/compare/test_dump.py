"""The state dump of SIGUSR1 has xinetd's lines: what reads the one reads the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
READY = bool(shutil.which("xinetd") and shutil.which("ip") and os.geteuid() == 0) and (
    subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
)
pytestmark = pytest.mark.skipif(not READY, reason="needs root, namespaces and xinetd")

SCRIPT = """
mount -t tmpfs none /run || exit 77
ip link set lo up
conf=$1 dump=$2
shift 2
"$@" -dontfork -f "$conf" -pidfile /run/pid >/run/log 2>&1 &
until [ -s /run/pid ] && grep -q ':4A39 .* 0A ' /proc/net/tcp; do sleep 0.02; done
exec 5<>/dev/tcp/127.0.0.1/19001
echo x >&5
read -r answer <&5
kill -USR1 $!
until grep -q 'END OF DUMP' "$dump" 2>/dev/null; do sleep 0.02; done
cat "$dump"
kill -9 $!
"""

CONF = """
defaults
{
    log_type = SYSLOG daemon info
    log_on_success = HOST PID
    log_on_failure = HOST
}
service held
{
    type = UNLISTED
    port = 19001
    socket_type = stream
    protocol = tcp
    wait = no
    user = nobody
    group = games
    server = /bin/cat
    server_args = -u -
    bind = 127.0.0.1
    flags = IPv4 KEEPALIVE
    instances = 4
    per_source = 3
    cps = 20 5
    umask = 027
    nice = 3
    access_times = 0:00-12:00 12:01-23:59
    log_type = FILE /run/held.log 100K 200K
    passenv = PATH
}
service waits
{
    type = UNLISTED
    id = by-id
    port = 19002
    socket_type = dgram
    protocol = udp
    wait = yes
    user = 54321
    groups = no
    server = /bin/cat
    flags = IPv6
    only_from =
    log_type = FILE /run/waits.log
}
service echo
{
    type = INTERNAL UNLISTED
    id = echo-stream
    port = 19003
    socket_type = stream
    wait = no
    flags = IPv4
}
"""

NUMBERS = re.compile(r"^(\s*(?:pid|service fd|descriptors_free|max_descriptors)) = .*", re.MULTILINE)
TIMES = re.compile(r"^(Current time:|start_time =) .*", re.MULTILINE)
PORT = re.compile(r"(remote_address = [\d.]+),\d+")

ONLY_XINETD = re.compile(
    r"\s+(?:attempts|descriptor|flags) = \d+$|\s+descriptor = -1$|log_remote_user|writes_to_log|Socket mask|pfds_last"
    r"|Open descriptors|\s+Environment strings:|\t\t\t"
)
"""Its own poll table and retries, which are not here; the environment, which is nobody's business."""

ONLY_OURS = re.compile(
    r"\s+(?:over_rate|Waited for CPS) = |lost_records = |acceptor \d = |relay = |\s+Server = internal"
    r"|\s+Instances = UNLIMITED|\s+CPS = max conn:50 wait:10"
)
"""What it has more, and what holds where nothing is written."""


def lines(program: list[str], conf: Path, dump: str) -> list[str]:
    """The dump without what differs from run to run."""
    run = subprocess.run(
        [*UNSHARE, "bash", "-c", SCRIPT, "bash", str(conf), dump, *program],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if run.returncode == 77:
        pytest.skip("mounting is not allowed here")
    text = NUMBERS.sub(r"\1 = N", run.stdout)
    text = PORT.sub(r"\1,N", TIMES.sub(r"\1 T", text)).replace("(empty list)", "All sites")
    text = text.replace("Bind = localhost", "Bind = 127.0.0.1")  # no names are looked up for a dump
    text = text.replace("flags = KEEPALIVE IPv4", "flags = IPv4 KEEPALIVE")
    found = [line for line in text.splitlines() if line.strip()]
    return found[found.index("Services + defaults:") :]


def without_defaults(found: list[str]) -> list[str]:
    """Without xinetd's block for `defaults`: here each service shows what holds for it."""
    return found[:1] + found[found.index("Service = held") :]


def test_same_lines(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    conf = tmp_path / "x.conf"
    conf.write_text(CONF)
    theirs = without_defaults(lines(["xinetd"], conf, "/run/xinetd.dump"))
    ours = lines([sys.executable, "-m", "fastinetd"], conf, "/run/fastinetd.dump")
    assert [line for line in ours if not ONLY_OURS.match(line)] == [
        line for line in theirs if not ONLY_XINETD.match(line)
    ]
