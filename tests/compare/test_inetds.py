"""Groups and environment of inetd.conf's servers are those that Debian's inetds give them, side by side."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.clients import ask, free_port
from support.contract import GROUPS
from support.daemon import Daemon
from support.proc import listens, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"

USERS = (
    "root", "root:root", "root:games", "nobody", "nobody:games", "nobody.games", "nobody:nogroup", "nobody:root",
    "daemon:first",
)  # fmt: skip

PROGRAMS = {"debian": ["usr/sbin/inetd", "-i"], "inetutils": ["usr/sbin/inetutils-inetd", "-d"]}
"""Where its package has it, and what keeps it in the foreground. .ci/run unpacks both."""

START = b"""HOME=/root PATH=/usr/bin:/bin LD_X=1 LANG=C A=1 TERM=x TERMINFO=x USER=root USERX=1 MAIL=1 EDITOR=1
EDITORS=1 SSHX=1 HOMER=1 TMPDIR=/x TMP=1 PWD=/p PATHX=1 GROUP=1 GROUPS_=1 DISPLAY=:0 CVSROOT=a LOGNAME=r SHELL=/bin/sh
IFS=1 IFSX=1 VISUAL=v PRINTER=p SHLVL=1 XPATH=1 LC_ALL=C \xe9=\xff LAST=1"""

OURS = re.compile(rb"((TCP|UDP)(REMOTE|LOCAL)(IP|PORT)|REMOTE_(ADDR|PORT|HOST)|PROTO)=")
DUMMY = b"inetd_dummy="
OPTIONS = {"whole": ["-E"], "usual": []}


@dataclass
class Both:
    """An inetd of Debian and the daemon in its dialect; `places` are the ports of a service, theirs and ours."""

    dialect: str
    whole: bool
    places: dict[str, tuple[int, int]]

    def asked(self, service: str) -> list[bytes]:
        return [ask(port) for port in self.places[service]]


@pytest.fixture(scope="module", params=[("debian", "usual"), ("debian", "whole"), ("inetutils", "usual")])
def both(request: pytest.FixtureRequest, need: Callable[[str], str]) -> Iterator[Both]:
    dialect, kind = request.param
    program, *foreground = PROGRAMS[dialect]
    path = need(str(ROOT / ".inetds" / program))
    need("gcc")
    folder = Path(tempfile.mkdtemp(prefix="fastinetd."))
    folder.chmod(0o755)
    subprocess.run(["gcc", "-O1", "-o", folder / "environ", SUPPORT / "environ.c"], check=True)
    (folder / "given").write_bytes(b"".join(each + b"\0" for each in START.split()))
    (folder / "group").write_text(
        Path("/etc/group").read_text() + "first:x:45001:nobody\nsecond:x:45002:root,nobody\n"
    )
    services = {user: f"{user} /bin/cat cat /proc/self/status" for user in USERS}
    services["environment"] = f"nobody {folder}/environ environ"
    places = {name: (free_port(), free_port()) for name in services}
    texts = [
        "".join(f"127.0.0.1:{places[name][side]} stream tcp nowait {rest}\n"
                for name, rest in services.items())
        for side in (0, 1)
    ]
    theirs = folder / "theirs.conf"
    theirs.write_text(texts[0])
    prefix = [
        need("unshare"), "--mount", need("setpriv"), "--groups", "7,8", "--regid", "5", "sh", "-c", GROUPS,
        str(folder / "group"),
        sys.executable, "-IS", str(SUPPORT / "started_with.py"), str(folder / "given"),
    ]  # fmt: skip
    argv = [*prefix, path, *foreground, *OPTIONS[kind], str(theirs)]
    inetd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        daemon = Daemon(
            folder, texts[1], ["--dialect", dialect, *OPTIONS[kind]], kind="inetd", prefix=prefix, exact_env={},
        )
        daemon.await_ready()
        wait_for(lambda: all(listens(theirs) for theirs, _ in places.values()), "the inetd listens", 30)
        yield Both(dialect, kind == "whole", places)
        assert daemon.finish() == []
    finally:
        inetd.terminate()
        inetd.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("user", USERS)
def test_ids_and_groups(both: Both, user: str) -> None:
    theirs, ours = (re.findall(rb"^(?:Uid|Gid|Groups):.*$", text, re.MULTILINE) for text in both.asked(user))
    assert len(theirs) == 3
    assert ours == theirs


def test_a_group_is_in_the_place_of_the_login_group(both: Both) -> None:
    for report in both.asked("nobody:games"):
        groups = re.findall(rb"^Groups:(.*)$", report, re.MULTILINE)
        assert groups[0].split() == [b"60", b"45001", b"45002"]


def test_environment(both: Both) -> None:
    """In Debian's the variables of a login are taken out, unless it is told otherwise."""
    theirs, ours = (text.split(b"\0")[:-1] for text in both.asked("environment"))
    expected = [each for each in theirs if not each.startswith(DUMMY)]
    assert [each for each in ours if not OURS.match(each)] == expected
    assert (b"PATH=/usr/bin:/bin" in expected) == (both.dialect != "debian" or both.whole)
