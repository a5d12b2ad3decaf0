"""The environment that a server finds is xinetd's, byte for byte and in its order, however the daemon was started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clients import ask, connect, datagrams, free_port
from support.pair import Pair, Side, Xinetd
from support.proc import listens, wait_for
from support.texts import entry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SUPPORT = Path(__file__).parents[1] / "support"
STARTER = [sys.executable, "-IS", str(SUPPORT / "started_with.py")]

STARTS = {
    "little": b"A=1\0",
    "coerced": b"LANG=C\0PATH=/bin:/usr/bin\0PYTHONDONTWRITEBYTECODE=1\0",
    "refused": b"LC_ALL=POSIX\0PYTHONUTF8=0\0PYTHONCOERCECLOCALE=0\0A=\xc3\xa9\0",
    "odd": b"A=1\0B=2\0A=3\0NAKED\0\0=x\0==\0PATH=/bin\0A\0\xc3\xbc=\xff\xfe\0EMPTY=\0BIG="
    + b"x" * 131000 + b"\0LAST=1\0",
    "own": b"LC_CTYPE=C.UTF-8\0LC_ALL=\0HOME=/nowhere\0",
}
"""What the daemon is started with. Python adds LC_CTYPE to its own environment in the first two, and takes out of it
what is there twice and what is no variable."""

SERVICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "env": {"env": "A=new Z=\xfc A=newer PATH="},
    "passenv": {"passenv": "B A PATH A MISSING LC_CTYPE \xfc", "env": "C=c A=over"},
    "passenv-empty": {"passenv": "", "env": "C=c C=d LC_CTYPE=x"},
    "zygote": {"spawn": "zygote"},
    "prefork": {"spawn": "prefork"},
    "first_io": {"spawn": "zygote", "snapshot": "first_io"},
    "posix_spawn": {"spawn_primitive": "posix_spawn"},
    "dgram": {"socket_type": "dgram", "protocol": "udp", "wait": "yes"},
    "accepting": {"wait": "yes"},
}
"""xinetd does not know the attributes of pools, and says so in its log."""

POOLS = ("zygote", "prefork", "first_io")

OURS = re.compile(rb"((TCP|UDP)(REMOTE|LOCAL)(IP|PORT)|REMOTE_(ADDR|PORT)|PROTO)=")
"""What xinetd does not tell."""


@pytest.fixture(scope="module")
def program(need: Callable[[str], str]) -> Iterator[Path]:
    need("gcc")
    folder = Path(tempfile.mkdtemp(prefix="fastinetd."))
    folder.chmod(0o755)
    subprocess.run(["gcc", "-O1", "-o", folder / "environ", SUPPORT / "environ.c"], check=True)
    yield folder / "environ"
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=STARTS)
def pair(request: pytest.FixtureRequest, need: Callable[[str], str], program: Path) -> Iterator[Pair]:
    folder = program.parent / request.param
    folder.mkdir()
    given = folder / "given"
    given.write_bytes(STARTS[request.param])
    entries = {}
    for name, attributes in SERVICES.items():
        args = f"{{folder}}/{name}" if "wait" in attributes else ""
        text = entry(name, 0, program, args, **attributes, user="root", allow_shared_layout="yes")
        entries[name] = text.replace("port = 0", "port = {port}")
    head = "defaults\n{\ncps = 0 0\n}\n"
    port = free_port()
    options = ["--acceptors", "1", "--metrics", f"127.0.0.1:{port}"]
    made = Pair(need("xinetd"), folder, head, entries, prefix=[*STARTER, str(given)], env={}, options=options)
    made.daemon.metrics_port = port
    made.daemon.await_metric("fastinetd_pool_processes", len(POOLS), state="zygote", timeout=60)
    yield made
    made.finish()


def found(side: Side, name: str) -> list[bytes]:
    """The environment of one server."""
    report = side.folder / name
    if name == "dgram":
        with datagrams() as client:
            client.sendto(b"x", ("127.0.0.1", side.port[name]))
            wait_for(report.exists, f"{side.name} started the server")
    elif name == "accepting":
        with connect(side.port[name]):
            wait_for(report.exists, f"{side.name} started the server")
    else:
        return ask(side.port[name]).split(b"\0")[:-1]
    return report.read_bytes().split(b"\0")[:-1]


@pytest.mark.parametrize("name", SERVICES)
def test_environment(pair: Pair, name: str) -> None:
    theirs, ours = (found(side, name) for side in pair.sides)
    assert [each for each in ours if not OURS.match(each)] == theirs
    told = [each for each in ours if OURS.match(each)]
    assert len(told) == {"accepting": 0}.get(name, 7)
    assert ours[len(ours) - len(told) :] == told
    if name in POOLS:
        pair.daemon.await_metric("fastinetd_pool_hits_total", 1, service=name)


def test_empty(need: Callable[[str], str], program: Path) -> None:
    """Nothing but the client's; such a daemon has no title, which other tests know it by."""
    folder = program.parent / "nothing"
    folder.mkdir()
    given = folder / "given"
    given.write_bytes(b"")
    ports = [free_port(), free_port()]
    prefix = [*STARTER, str(given)]
    text = [entry("plain", port, program, user="root") for port in ports]
    xinetd = Xinetd(need("xinetd"), folder, text[0], ports[:1], prefix, {})
    try:
        assert ask(ports[0]) == b"REMOTE_HOST=127.0.0.1\0"
    finally:
        xinetd.finish()
    conf = folder / "ours.conf"
    conf.write_text(text[1])
    argv = [*prefix, sys.executable, "-m", "fastinetd", "-dontfork", "-f", str(conf), "-pidfile", str(folder / "pid")]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as daemon:
        try:
            wait_for(lambda: listens(ports[1]), "it listens", 60)
            found = ask(ports[1]).split(b"\0")[:-1]
        finally:
            daemon.terminate()
    assert [each for each in found if not OURS.match(each)] == [b"REMOTE_HOST=127.0.0.1"]
