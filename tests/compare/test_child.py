"""What a server finds when it is started is what it finds under xinetd: everything /proc tells of it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastinetd.core.program import CONNECTION_VARIABLES
from support.clients import ask, connect, datagrams, has_ipv6
from support.contract import ENV, FILES, HEAD, SERVICES, surroundings
from support.pair import Pair
from support.proc import wait_for
from support.texts import entry
from support.views import PROBE, View, view

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

OWN_VARIABLES = CONNECTION_VARIABLES - {"REMOTE_HOST"}

IN_A_GROUP = ["setpriv", "--groups", "45003"]
"""The daemons are in a group that no server may be left in, also where it gets no groups at all."""

ALWAYS_DIFFERENT = {"limit Max open files": (f"{FILES[1]} {FILES[1]}", f"{FILES[0]} {FILES[1]}")}
"""Deliberate: what -> (xinetd's, ours), where the service does not say it itself. The limit of open files is the one
that the daemon was started with; xinetd raises the soft one to the hard one, which takes programs that use select() to
descriptors they cannot handle."""

DIFFERENT: dict[str, dict[str, tuple[object, object]]] = {
    "dual": {"REMOTE_HOST": ("::ffff:127.0.0.5", "127.0.0.5")},
}
"""Deliberate, for one service: an IPv4 client of a socket of both families has an IPv4 address, in the environment as
in the records, so that a program or a log reader that knows only those works."""


def service(name: str, attributes: dict[str, object]) -> str:
    given = dict(attributes)
    args = f"answer {given.pop('more_args', '')}".strip()
    if "bind" in given and given["bind"] is None:
        text = entry(name, 0, "/bin/sh", f"{PROBE} {args}", **given)
        lines = [line for line in text.splitlines(keepends=True) if not line.strip().startswith("bind =")]
    else:
        lines = entry(name, 0, "/bin/sh", f"{PROBE} {args}", **given).splitlines(keepends=True)
    return "".join(lines).replace("port = 0", "port = {port}")


def named(name: str) -> str:
    """NAMEINARGS: the first argument is argv[0]."""
    text = service(name, {})
    return text.replace("    server_args = ", "    flags = NAMEINARGS\n    server_args = other-name ")


def waiting(name: str, kind: str, mode: str) -> str:
    args, protocol = f"{PROBE} {mode} {{folder}}/{name}", "udp" if kind == "dgram" else "tcp"
    text = entry(name, 0, "/bin/sh", args, wait="yes", user="nobody", socket_type=kind, protocol=protocol)
    return text.replace("port = 0", "port = {port}")


WAITING = {"dgram": waiting("dgram", "dgram", "datagram"), "stream-wait": waiting("stream-wait", "stream", "accept")}

@pytest.fixture(scope="module")
def pair(need: Callable[[str], str]) -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="fastinetd."))
    folder.chmod(0o755)
    entries = {name: service(name, attributes) for name, attributes in SERVICES.items()} | WAITING
    entries["named"] = named("named")
    made = Pair(need("xinetd"), folder, HEAD, entries, prefix=[*surroundings(folder), *IN_A_GROUP], env=ENV)
    yield made
    made.finish()
    shutil.rmtree(folder, ignore_errors=True)


def differences(name: str, theirs: View, ours: View) -> dict[str, tuple[object, object]]:
    """What differs other than on purpose, and what should and does not: (xinetd's, ours)."""
    before, after = flat(theirs), flat(ours)
    found = {what: (before.get(what), after.get(what)) for what in before | after}
    found = {what: seen for what, seen in found.items() if seen[0] != seen[1]}
    expected = dict(DIFFERENT.get(name, {}))
    if "rlimit_files" not in SERVICES.get(name, {}):
        expected |= ALWAYS_DIFFERENT
    wrong = [what for what in found | expected if found.get(what) != expected.get(what)]
    return {what: found.get(what, ("no", "difference")) for what in wrong}


def flat(seen: View) -> dict[str, object]:
    """Each variable by itself, without those that xinetd does not have; the folders of the two sides look alike."""
    whole = seen.comparable()
    del whole["env"]
    variables = {name: value for name, value in seen.variables().items() if name not in OWN_VARIABLES}
    argv = [re.sub("/(?:xinetd|fastinetd)/", "/SIDE/", word) for word in seen.argv]
    return whole | variables | {"argv": argv}


@pytest.mark.parametrize("name", [*SERVICES, "named"])
def test_started_alike(pair: Pair, name: str) -> None:
    theirs, ours = (view(ask(side.port[name], source="127.0.0.5")) for side in pair.sides)
    assert differences(name, theirs, ours) == {}


def test_the_groups_are_looked_up(pair: Pair) -> None:
    """That the comparison sees groups at all: nobody is in two, where the daemons could be shown that."""
    if "unshare" not in pair.prefix:
        pytest.skip("mounting is not allowed here")
    groups = view(ask(pair.ours.port["groups"])).status["Groups"].split()
    assert groups == ["45001", "45002", "65534"]


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_started_alike_over_ipv6(pair: Pair) -> None:
    theirs, ours = (view(ask(side.port["dual"], host="::1")) for side in pair.sides)
    assert differences("dual over IPv6", theirs, ours) == {}


def test_datagram_server(pair: Pair) -> None:
    views = []
    for side in pair.sides:
        with datagrams("127.0.0.6") as client:
            client.sendto(b"x", ("127.0.0.1", side.port["dgram"]))
        report = side.folder / "dgram"
        wait_for(report.exists, f"{side.name} started the server")
        views.append(view(report.read_bytes()))
    assert differences("dgram", *views) == {}


def test_accepting_server(pair: Pair) -> None:
    views = []
    for side in pair.sides:
        with connect(side.port["stream-wait"]):
            report = side.folder / "stream-wait"
            wait_for(report.exists, f"{side.name} started the server")
        views.append(view(report.read_bytes()))
    assert differences("stream-wait", *views) == {}
