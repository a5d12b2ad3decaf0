"""Odd spellings mean here what they mean in xinetd: each in a service of its own, both daemons read them all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config
from fastinetd.plan.model import PlannedService
from fastinetd.plan.plan import make_plan
from fastinetd.plan.surroundings import Surroundings
from support.original import Original, can_run, listeners_of, ours, run_original

pytestmark = pytest.mark.skipif(not can_run(), reason="needs root, namespaces, xinetd and ss")

ENV = {"PATH": os.environ["PATH"], "TERM": "dumb", "ONE": "1"}

ALIKE = [
    "instances = +3", "instances = 010", "instances = Unlimited", "per_source = +3", "cps = +5 +6", "cps = 5 0",
    "cps = 5", "max_load = +3", "max_load = 3.", "max_load = .5", "nice = +5", "nice = -0", "umask = +22",
    "umask = 00022", "umask = 8", "rlimit_as = -1", "rlimit_as = +4k", "rlimit_as = 18446744073709551615",
    "rlimit_files = -1", "rlimit_cpu = -1", "rlimit_cpu = 10k", "rlimit_stack = 9223372036854775807",
    "rlimit_data = 99999999999999999999", "log_type = FILE /run/l 0", "log_type = FILE /run/l 0 10K",
    "log_type = FILE /run/l 10k", "log_type = file /run/l +10", "log_type = FILE /run/l 20k 10k",
    "log_type = syslog DAEMON INFO", "log_type = SYSLOG daemon warn", "server = /bin/date/", "server = //bin/./date",
    "server = bin/date", "only_from = 10.0.0.0/8x", "no_access = 10.0.0.0/8x", "no_access = 10.0.0.0/+8",
    "no_access = 10.0.0.0/8/8", "no_access = 10.0.0.0/8;", "no_access = ::1/64x", "no_access = fe80::1%lo",
    "no_access = 10.0.0.1-5", "no_access = 10.0.0.1,10.0.0.2", "no_access = 1.{2,3}.4", "no_access = 1.2.3.{4,}",
    "no_access = 1.2.3.{1-4}", "no_access = 1..2", "no_access = ..", "no_access = .", "no_access = a{1}",
    "no_access = 1.2.3.4.5", "no_access = x_y/8", "only_from = .", "only_from = {1,2}",
    "only_from = 10.0.0.0/8 ::1 | only_from -= 10.0.0.0", "only_from = 10.0.0.1 ::2 | only_from -= 10.0.0.1/32 0::2",
    "only_from = .example.com | only_from -= .EXAMPLE.com", "only_from = 10.0.0.{1,2,3} | only_from -= 10.0.0.2",
    "no_access = 10.0.0.{1,2} | no_access -= 10.0.0.{2,1}", "no_access = 0.0.0.0/0 | no_access -= 0.0.0.0",
    "no_access = 1.2.0.0/16 | no_access -= 1.{2}", "\fnice = 5", "\f", "\v nice = 6", "# x = y",
    "flags = ipv4 NoDelay", "passenv = ONE | passenv -= ONE", "log_on_success = pid Host", "groups = YES",
    "instances = 3 4", "access_times = 8:0-9:5 10:00-11:00", "access_times = 8-9", "access_times = +8:00-9:00",
]  # fmt: skip
"""Lines of a service, ` | ` between them: those that drop it among them."""


def text_of(number: int, lines: str) -> str:
    """A service with these lines in the place of its own."""
    own = {"type": "UNLISTED", "socket_type": "stream", "wait": "no", "user": "nobody", "server": "/bin/date"}
    own["port"] = str(7000 + number)
    given = [line.strip(" ") for line in lines.split(" | ")]
    kept = [f"    {name} = {value}\n" for name, value in own.items() if not lines.startswith(f"{name} =")]
    return f"service s{number}\n{{\n{''.join(kept)}" + "".join(f"{line}\n" for line in given) + "}\n"


ATTRIBUTES = ("Only from", "No access", "Server argv")

OTHERWISE = [
    "only_from = ::1/128", "no_access = 10.0.0.0/255.0.0.0", "access_times = 22:00-6:00", "access_times = 8:00-24:00",
    "access_times = 8:00-8:00", "v6only = no", "bind = 127.0.0.1 127.0.0.2", "interface += 127.0.0.1 127.0.0.2",
    "log_type = SYSLOG cron", "nice=5", "nice= 5", "user = nobody\r",
]  # fmt: skip
"""Lines that mean something else to xinetd, on purpose: --check has a note on each, and on no other."""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Original, dict[str, PlannedService], list[str]]]:
    conf = tmp_path_factory.mktemp("spellings") / "x.conf"
    conf.write_text("".join(text_of(number, lines) for number, lines in enumerate(ALIKE)), newline="")
    theirs = run_original(conf, env=ENV)
    if not theirs.allowed:
        pytest.skip("mounting is not allowed here")
    report = Report(differences=True)
    environ = tuple(f"{name}={value}".encode() for name, value in ENV.items())
    config = load_config(str(conf), kind="xinetd", report=report)
    plan = make_plan(config, replace(Surroundings(), environ=environ), report)
    yield theirs, {planned.id: planned for planned in plan.services}, [each.code for each in report]


@pytest.mark.parametrize("lines", ALIKE)
def test_spelling(read: tuple[Original, dict[str, PlannedService], list[str]], lines: str) -> None:
    theirs, plan, said = read
    name = f"s{ALIKE.index(lines)}"
    assert (name in plan) == (name in theirs.services), said
    if name not in plan:
        return
    (before,), after = theirs.services[name], ours(plan[name])
    assert {what: (value, after.get(what)) for what, value in before.items() if value != after.get(what)} == {}
    assert listeners_of(plan[name]) <= theirs.listeners


def test_no_note_says_that_these_differ(read: tuple[Original, dict[str, PlannedService], list[str]]) -> None:
    assert "in-xinetd" not in read[2]


@pytest.mark.parametrize("line", OTHERWISE)
def test_a_note_says_what_differs(line: str, tmp_path: Path) -> None:
    conf = tmp_path / "x.conf"
    conf.write_text(text_of(0, line), newline="")
    theirs = run_original(conf, env=ENV)
    if not theirs.allowed:
        pytest.skip("mounting is not allowed here")
    report = Report(differences=True)
    (planned,) = make_plan(load_config(str(conf), kind="xinetd", report=report), Surroundings(), report).services
    assert [each.code for each in report if each.code == "in-xinetd"] == ["in-xinetd"]
    shown = theirs.services.get("s0")
    if shown is not None:
        same = all(shown[0][what] == value for what, value in ours(planned).items() if what in ATTRIBUTES)
        alone = "v6only" in line  # the listeners look alike, for one of them
        assert not same or listeners_of(planned) != theirs.listeners or alone


@pytest.mark.parametrize("line", ["disabled = S1 OTHER", "enabled = S0", "disabled = s1 # s2", "enabled = s1,s0"])
def test_ids(line: str, tmp_path: Path) -> None:
    """But for a comment, whose words are ids in xinetd."""
    conf = tmp_path / "x.conf"
    services = [text_of(number, "nice = 1") for number in range(3)]
    conf.write_text(f"defaults\n{{\n    {line}\n}}\n" + "".join(services) + text_of(3, "id = Other"))
    theirs = run_original(conf, env=ENV)
    if not theirs.allowed:
        pytest.skip("mounting is not allowed here")
    found = {service.id for service in load_config(str(conf), kind="xinetd", report=Report()).services}
    assert found - theirs.services.keys() == ({"s2"} if "#" in line else set())
    assert theirs.services.keys() <= found
