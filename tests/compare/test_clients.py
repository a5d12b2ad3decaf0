"""What clients get and what the log says is what they get and it says under xinetd."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.clients import Held, ask, ask_datagram, datagrams, has_ipv6
from support.pair import Pair, Side
from support.proc import asleep, below, wait_for
from support.texts import entry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HEAD = """defaults
{
    cps = 0 0
    log_type = FILE {log}
    log_on_success = PID HOST EXIT DURATION
    log_on_failure = HOST
}
"""


def elsewhen() -> str:
    """A span that does not hold now, nor in the next half hour."""
    hour = datetime.datetime.now().hour
    return "1:00-2:00" if hour >= 12 else "20:00-21:00"


ECHO, CAT = ("/bin/echo", "served"), ("/bin/cat", "")

ACCESS: dict[str, dict[str, object]] = {
    "anybody": {},
    "one": {"only_from": "127.0.0.1"},
    "two": {"only_from": "127.0.0.1 127.0.0.2"},
    "net": {"only_from": "127.0.0.0"},
    "net-short": {"only_from": "127.0.0.0/31 10.0.0.0"},
    "net-of-one": {"only_from": "127.0.0.2/32"},
    "net-wide": {"only_from": "127.0.0.0/8"},
    "net-everything": {"only_from": "0.0.0.0"},
    "factors": {"only_from": "127.0.0.{2,3}"},
    "factors-short": {"only_from": "127.{1,2}"},
    "factors-one": {"only_from": "127.0.0.{1}"},
    "inet-aton": {"only_from": "127.1"},
    "nobody": {"only_from": ""},
    "network-name": {"only_from": "loopback"},
    "not-one": {"no_access": "127.0.0.1"},
    "not-net": {"no_access": "127.0.0.0/24"},
    "not-nobody": {"no_access": ""},
    "both": {"only_from": "127.0.0.0/8", "no_access": "127.0.0.2"},
    "both-same": {"only_from": "127.0.0.1", "no_access": "127.0.0.1"},
    "not-over-only": {"only_from": "127.0.0.1", "no_access": "127.0.0.0"},
    "typo": {"only_from": "127.0.0.1 999.0.0.1"},
    "typo-alone": {"only_from": "127.0.0."},
    "times-now": {"access_times": "0:00-23:59"},
    "times-several": {"access_times": f"{elsewhen()} 0:00-23:59"},
    "times-not": {"access_times": elsewhen()},
    "no-instances": {"instances": "0"},
    "no-source": {"per_source": "0"},
    "load-low": {"max_load": "0.0000001"},
    "load-high": {"max_load": "100000"},
    "six": {"only_from": "127.0.0.0/8 ::1", "bind": "::1"},
    "six-not": {"only_from": "127.0.0.1", "bind": "::1"},
    "six-any": {"only_from": "::/0", "bind": "::1"},
    "dual": {"only_from": "127.0.0.2", "bind": "::", "flags": "IPv6"},
}
"""Each is asked from every source; the answers and the records are compared."""

SOURCES = ["127.0.0.1", "127.0.0.2", "127.0.1.1", "127.1.0.1"]

DIFFERENT_ANSWERS: dict[str, tuple[str, ...]] = {
    "not-over-only": ("127.0.0.1",),  # of both lists the most specific entry counts, as xinetd's manual promises
    "network-name": tuple(SOURCES),  # a name of /etc/networks is that network; in xinetd it matches nobody
}
"""Deliberate: service -> sources that are served here and refused by xinetd."""

LOGS: dict[str, dict[str, object]] = {
    "log-all": {},
    "log-none": {"log_on_success": "", "log_on_failure": ""},
    "log-pid": {"log_on_success": "PID"},
    "log-host": {"log_on_success": "HOST"},
    "log-exit": {"log_on_success": "EXIT"},
    "log-duration": {"log_on_success": "DURATION"},
    "log-pid-exit": {"log_on_success": "PID EXIT"},
    "log-less": {"log_on_success -": "HOST DURATION"},
    "log-id": {"id": "log-id"},
    "log-failure-none": {"log_on_failure": "", "instances": "0"},
    "log-failure-attempt": {"log_on_failure": "ATTEMPT", "instances": "0"},
    "log-failure-host": {"log_on_failure": "HOST", "instances": "0"},
    "log-no-type": {"log_type": "FILE {folder}/other"},
}
EXITS = {"exit-1": "false", "exit-0": "true", "exit-77": "exit77", "signal-15": "term", "signal-9": "kill"}


def service(name: str, server: tuple[str, str], attributes: Mapping[str, Any]) -> str:
    text = entry(name, 0, *server, **{key: value for key, value in attributes.items() if not key.endswith("-")})
    for key, value in attributes.items():
        if key.endswith("-"):
            text = text.replace("}\n", f"    {key}= {value}\n}}\n")
    return text.replace("port = 0", "port = {port}")


@pytest.fixture(scope="module")
def pair(need: Callable[[str], str]) -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="fastinetd."))
    folder.chmod(0o755)
    ends = {"exit77": "exit 77", "term": "kill -TERM $$", "kill": "kill -KILL $$", "true": "exit 0", "false": "exit 1"}
    for name, line in ends.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    (folder / "gone").write_text("#!/nowhere/interpreter\n")
    (folder / "gone").chmod(0o755)
    entries = {name: service(name, ECHO, given) for name, given in (ACCESS | LOGS).items()}
    entries |= {name: service(name, (f"{folder}/{script}", ""), {}) for name, script in EXITS.items()}
    entries["exec"] = service("exec", (f"{folder}/gone", ""), {})
    entries["instances"] = service("instances", CAT, {"instances": "2"})
    entries["per-source"] = service("per-source", CAT, {"per_source": "1"})
    for name, only_from in (("datagram", "127.0.0.1"), ("datagram-open", "127.0.0.0/8")):
        given = {"socket_type": "dgram", "protocol": "udp", "wait": "yes", "only_from": only_from}
        entries[name] = service(name, (f"{folder}/answer", ""), given)
    (folder / "answer").write_text(ANSWER)
    (folder / "answer").chmod(0o755)
    made = Pair(need("xinetd"), folder, HEAD, entries)
    yield made
    made.finish()
    shutil.rmtree(folder, ignore_errors=True)


ANSWER = """#!/usr/bin/python3 -IS
import socket
s = socket.socket(fileno=0)
data, peer = s.recvfrom(2000)
s.sendto(b"got " + data, peer)
"""


def settled(pair: Pair, side: Side, name: str, wanted: int) -> list[str]:
    """A service's records, once there are so many and nothing of the side runs any more: then it waits for clients, and
    has written what there is to say of those that ended."""
    pid = pair.xinetd.process.pid if side is pair.theirs else pair.daemon.pid
    own = set() if side is pair.theirs else set(pair.daemon.roles().values())

    def at_rest() -> bool:
        return not set(below(pid)) - own and asleep(pid) and len(side.records(name)) >= wanted

    wait_for(at_rest, lambda: side.records(name))
    return side.records(name)


def without_start_and_end(lines: list[str]) -> list[str]:
    """xinetd forks before it looks at the address: START, FAIL and EXIT for one refusal. Here it is a FAIL."""
    kept = list(lines)
    for line in lines:
        if " address " in line:
            client = line[line.index("from=") :]
            kept.remove(next(one for one in kept if one.startswith("START:") and one.endswith(client)))
            kept.remove(next(one for one in kept if one.startswith("EXIT:")))
    return kept


@pytest.mark.parametrize("name", ACCESS)
def test_admitted_and_refused_alike(pair: Pair, name: str) -> None:
    six = "six" in name
    if six and not has_ipv6():
        pytest.skip("no IPv6 here")
    sources = ["::1"] if six else SOURCES
    answers = []
    for side in pair.sides:
        answers.append({s: ask(side.port[name], source=s, host="::1" if six else "127.0.0.1") for s in sources})
    theirs, ours = answers
    different = {source: ours[source] for source in sources if theirs[source] != ours[source]}
    assert different == dict.fromkeys(DIFFERENT_ANSWERS.get(name, ()), b"served\n")
    if name in DIFFERENT_ANSWERS:
        return
    counts = [2 * sum(map(bool, theirs.values())) + sum(not a for a in theirs.values())] * 2
    their_lines, our_lines = (settled(pair, side, name, count) for side, count in zip(pair.sides, counts))
    their_lines = [line.replace("::ffff:", "") for line in without_start_and_end(their_lines)]
    assert sorted(our_lines) == sorted(their_lines)


@pytest.mark.parametrize("name", LOGS)
def test_records_alike(pair: Pair, name: str) -> None:
    for side in pair.sides:
        for source in ("127.0.0.1", "127.0.0.3"):
            ask(side.port[name], source=source)
    their_lines, our_lines = (settled(pair, side, name, 0) for side in pair.sides)
    wait_for(lambda: len(pair.ours.records(name)) >= len(their_lines), lambda: (their_lines, pair.ours.records(name)))
    assert sorted(settled(pair, pair.ours, name, 0)) == sorted(their_lines), our_lines


@pytest.mark.parametrize("name", EXITS)
def test_ends_alike(pair: Pair, name: str) -> None:
    for side in pair.sides:
        assert ask(side.port[name]) == b""
    theirs, ours = (settled(pair, side, name, 2) for side in pair.sides)
    assert ours == theirs


def test_what_cannot_be_executed(pair: Pair) -> None:
    """Deliberate: a FAIL with the reason, where xinetd records a start and an end with status 0."""
    for side in pair.sides:
        assert ask(side.port["exec"]) == b""
    theirs, ours = settled(pair, pair.theirs, "exec", 2), settled(pair, pair.ours, "exec", 1)
    assert [line.split()[0] for line in theirs] == ["START:", "EXIT:"]
    assert ours == ["FAIL: exec exec from=127.0.0.1"]


def test_records_with_time_and_pid(pair: Pair) -> None:
    """The same stamp, and a pid that is the server's own."""
    stamp = r"\d\d/\d{1,2}/\d{1,2}@\d\d:\d\d:\d\d: "
    for side in pair.sides:
        ask(side.port["log-all"])

        def pids(kind: str, more: str, log: Path = side.log) -> list[str]:
            found = re.findall(rf"^{stamp}{kind}: log-all {more}$", log.read_text(), re.MULTILINE)
            return sorted(found)

        def starts_and_ends() -> bool:
            starts = pids("START", r"pid=(\d+) from=127\.0\.0\.\d")
            return starts != [] and starts == pids("EXIT", r"status=0 pid=(\d+) duration=\d+\(sec\)")

        wait_for(starts_and_ends, lambda: side.log.read_text()[-500:])  # noqa: B023


@pytest.mark.parametrize("name", ["instances", "per-source"])
def test_limits_alike(pair: Pair, name: str) -> None:
    seen = []
    for side in pair.sides:
        sources = ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3"]
        held = [Held(side.port[name], source=source) for source in sources]
        verdicts = [client.admitted for client in held]
        for client in held:
            client.close()
        records = settled(pair, side, name, 2 * sum(verdicts) + verdicts.count(False))
        seen.append((verdicts, sorted(records)))
    assert seen[0] == seen[1]


def test_datagrams_alike(pair: Pair) -> None:
    """One after the other, served by a server each."""
    for i in range(3):
        answers = [ask_datagram(side.port["datagram-open"], b"%d" % i, "127.0.0.4") for side in pair.sides]
        assert answers == [b"got %d" % i] * 2
        lines = [settled(pair, side, "datagram-open", 2 * i + 2) for side in pair.sides]
        assert lines[0] == lines[1]


def test_refused_datagram_costs_only_itself(pair: Pair) -> None:
    """Deliberate: no server is started for it (xinetd forks one to say so), and the next one is served."""
    with datagrams("127.0.0.2") as stranger:
        stranger.sendto(b"no", ("127.0.0.1", pair.ours.port["datagram"]))
        assert ask_datagram(pair.ours.port["datagram"], b"yes") == b"got yes"
    lines = settled(pair, pair.ours, "datagram", 3)
    assert lines[0] == "FAIL: datagram address from=127.0.0.2"
    assert [line.split()[0] for line in lines] == ["FAIL:", "START:", "EXIT:"]
