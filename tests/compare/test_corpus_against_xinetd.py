"""What xinetd starts from real configuration files, the readers start too.

xinetd itself reads each file and dumps its state. It runs in namespaces of its own: a network without anything else on
its ports, an /etc/services that knows every service of the file, an empty /run. Programs and users are replaced in the
text, the same for both sides, because the real ones are not installed here. Left out of the comparison is only what
this release says it does not start.
"""

import collections
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load

ROOT = Path(__file__).parent.parent.parent
FOLDER = Path(os.environ.get("FASTINETD_CORPUS", ROOT.parent / "shared" / "corpus")) / "xinetd"

SCRIPT = """
mount -t tmpfs none /run && mount -t tmpfs none /var/log && mount --bind "$1" /etc/services || exit 77
ip link set lo up
xinetd -dontfork -stayalive -f "$2" -filelog /run/log -pidfile /run/pid >/dev/null 2>&1 &
until grep -q "Started working" /run/log 2>/dev/null || ! kill -0 $!; do sleep 0.02; done
kill -USR1 $!
until grep -q "END OF DUMP" /run/xinetd.dump 2>/dev/null || ! kill -0 $!; do sleep 0.02; done
cat /run/xinetd.dump
kill -9 $!
"""
UNSHARE = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private"]

READY = bool(shutil.which("xinetd") and shutil.which("ip") and os.geteuid() == 0 and FOLDER.is_dir()) and (
    subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
)
pytestmark = pytest.mark.skipif(not READY, reason="needs root, namespaces, xinetd and the folder of real files")

SLOW = re.compile(r"(?mi)^\s*type\s*=.*\bRPC\b")
"""xinetd waits a second for each version of an RPC service."""

FILES = sorted(FOLDER.glob("*")) if READY else []


def prepared(text: str) -> str:
    """The text with a program and a user that exist."""
    text = re.sub(r"(?m)^([ \t]*server[ \t]*=[ \t]*)\S+", r"\1/bin/true", text)
    return re.sub(r"(?m)^([ \t]*(?:user|group)[ \t]*=[ \t]*)\w\S*", r"\1root", text)


def names(text: str) -> str:
    """An /etc/services with all services of the text, each with its own port or one above 20000."""
    lines = Path("/etc/services").read_text().splitlines()
    known = {word for line in lines for word in line.partition("#")[0].split()}
    ports: dict[str, str] = {}
    for name, body in re.findall(r"(?mi)^\s*service\s+(\S+)([^}]*)", text):
        port = re.search(r"(?m)^\s*port\s*=\s*(\d+)\s*$", body)
        ports.setdefault(name, port[1] if port else str(20001 + len(ports)))
    added = [
        f"{name}\t{port}/{protocol}" for name, port in ports.items() if name not in known for protocol in ("tcp", "udp")
    ]
    return "\n".join([*lines, *added, ""])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_same_services(file: Path, tmp_path: Path) -> None:
    text = prepared(file.read_text(encoding="utf-8", errors="surrogateescape"))
    if SLOW.search(text):
        pytest.skip("an RPC service")
    conf, services = tmp_path / "x.conf", tmp_path / "services"
    conf.write_text(text, encoding="utf-8", errors="surrogateescape")
    services.write_text(names(text), encoding="utf-8", errors="surrogateescape")
    command = [*UNSHARE, "sh", "-c", SCRIPT, "sh", str(services), str(conf)]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    if run.returncode == 77:
        pytest.skip("mounting is not allowed here")
    theirs = collections.Counter(re.findall(r"\n\tState = (?:Active|Suspended)\n(?:.*\n)*?\t\tid = (.*)\n", run.stdout))
    report = Report()
    config = load(str(conf), kind="xinetd", report=report)
    ours = collections.Counter(service.id for service in config.services)
    refused = {diagnostic.service for diagnostic in report if diagnostic.code == "not-started"}
    missing = [found for found in theirs - ours if found not in refused]
    assert not missing, [str(diagnostic) for diagnostic in report]
