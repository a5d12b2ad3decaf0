"""What xinetd starts from real configuration files, the readers start too.

xinetd itself reads each file and dumps its state. It runs in namespaces of its own: a network without anything else on
its ports, an /etc/services that knows every service of the file, an empty /run. Programs and users are replaced in the
text, the same for both sides, because the real ones are not installed here. Left out of the comparison is only what
this release says it does not start.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config
from fastinetd.plan import endpoints
from fastinetd.plan.model import PlannedService
from fastinetd.plan.plan import make_plan
from fastinetd.plan.surroundings import Surroundings
from support.corpus import FOLDER, IS_HERE, corpus_files
from support.original import Listener, Shown, can_run, listeners_of, ours, run_original

READY = IS_HERE and can_run()
pytestmark = pytest.mark.skipif(not READY, reason="needs root, namespaces, xinetd, ss and the folder of real files")

SLOW = re.compile(r"(?mi)^\s*type\s*=.*\bRPC\b")
"""xinetd waits a second for each version of an RPC service."""

FILES = [FOLDER / name for name in corpus_files("xinetd")] if READY else []


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


ENV = {"PATH": os.environ["PATH"], "TERM": "dumb"}

TOLD = {
    "Instances": "trailing-comment", "PER_SOURCE": "trailing-comment", "CPS": "trailing-comment",
    "wait": "dgram-nowait",
}  # fmt: skip
"""What differs on purpose: attribute -> the message that tells the user so (docs/differences.md)."""

LOST = re.compile(r"Bad operator for attribute: service|missing service keyword|bad address|creation of \S+ log failed")
"""What xinetd says of services that it drops and that are served here, on purpose too: after a missing brace or a stray
line, with an address that may come, with a log that may come."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_same_services(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same services are started, each attribute that the dump shows is the same, and so is where they listen."""
    text = prepared(file.read_text(encoding="utf-8", errors="surrogateescape"))
    if SLOW.search(text):
        pytest.skip("an RPC service")
    conf, services = tmp_path / "x.conf", tmp_path / "services"
    conf.write_text(text, encoding="utf-8", errors="surrogateescape")
    services.write_text(names(text), encoding="utf-8", errors="surrogateescape")
    theirs = run_original(conf, services=services, env=ENV)
    if not theirs.allowed:
        pytest.skip("mounting is not allowed here")
    monkeypatch.setattr(endpoints, "listed_port", lambda name, protocol: listed(services).get((name, protocol)))
    report = Report()
    config = load_config(str(conf), kind="xinetd", report=report)
    environ = tuple(f"{name}={value}".encode() for name, value in ENV.items())
    found: dict[str, list[PlannedService]] = {}
    for planned in make_plan(config, replace(Surroundings(), environ=environ), report).services:
        found.setdefault(planned.id, []).append(planned)
    codes = {(diagnostic.service, diagnostic.code) for diagnostic in report}
    listening: set[Listener] = set()
    more = found.keys() - theirs.services.keys()
    assert not more or any(map(LOST.match, theirs.complaints)), (more, theirs.complaints)
    for name, shown in theirs.services.items():
        if (name, "not-started") in codes:
            continue
        assert len(found.get(name, ())) == len(shown), [str(diagnostic) for diagnostic in report]
        for before, planned in zip(shown, found[name]):
            differing = dict(differences(before, ours(planned)))
            told = {what for what in differing if (planned.service.name, TOLD.get(what)) in codes}
            assert differing.keys() == told, (name, differing)
            listening |= listeners_of(planned)
    assert listening <= theirs.listeners


def differences(before: Shown, after: Shown) -> Iterator[tuple[str, tuple[object, object]]]:
    """What the dump shows otherwise: (xinetd's, ours). Names in lists that are unknown here are lost in xinetd."""
    for what, value in before.items():
        own = after.get(what)
        if isinstance(own, frozenset) and isinstance(value, frozenset) and what in ("Only from", "No access"):
            own = frozenset(entry for entry in own if not isinstance(entry, str) or entry in value)
        if value != own:
            yield what, (value, own)


@lru_cache(maxsize=1)
def listed(services: Path) -> dict[tuple[str, str], int]:
    """(name, protocol) -> port of an /etc/services; the first of a name counts."""
    found: dict[tuple[str, str], int] = {}
    for line in services.read_text(errors="surrogateescape").splitlines():
        name, place, *others = [*line.partition("#")[0].split(), "", ""]
        port, _, protocol = place.partition("/")
        for each in (name, *others):
            found.setdefault((each, protocol), int(port or 0))
    return found
