"""One example for each message of the Plan: what is written, what the machine is like, where the message points."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fastinetd.plan.plan
from fastinetd.config import diagnostics
from fastinetd.config.diagnostics import CATALOGUE, Diagnostic, Report
from fastinetd.config.load import load_config
from fastinetd.plan import endpoints, plan
from fastinetd.plan.access import check_names
from fastinetd.plan.model import Plan
from fastinetd.plan.plan import forget_lookups, make_plan
from fastinetd.plan.surroundings import Surroundings
from fastinetd.system.privileges import CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_RESOURCE, Privileges
from support.lacking import need_localhost

SERVICE = (
    "service a\n{\ntype = UNLISTED\nsocket_type = stream\nport = 7000\nwait = no\nuser = root\nserver = /bin/true\n"
)
LINE = 9  # of what follows SERVICE
OWN = Surroundings(environ=(), root=True, uid=0, gid=0, nice=0, files=(1024, 4096), ids=None, may=Privileges(),
                   groups=frozenset({4}))
NOBODYS = replace(OWN, root=False, uid=65534, gid=65534, may=Privileges(0))


def lacking(*capabilities: int, **values: Any) -> Surroundings:
    """Root without these."""
    return replace(OWN, may=Privileges(~sum(1 << capability for capability in capabilities), **values))


def lines(*more: str, base: str = SERVICE) -> str:
    return base + "".join(f"{line}\n" for line in more) + "}\n"


def without(start: str) -> str:
    """SERVICE with an empty line in place of the one that begins so."""
    return re.sub(rf"^{start}.*$", "", SERVICE, flags=re.MULTILINE)


NOBODY = SERVICE.replace("user = root", "user = 65534")
UNIX = SERVICE.replace("port = 7000", "protocol = unix\nbind = /run/x")

Example = tuple[str, Surroundings, tuple[int, int]]  # text, machine, line and column of the message

EXAMPLES: dict[str, Example] = {
    "no-user": (lines("user = no-such-user", base=without("user")), OWN, (LINE, 8)),
    "no-group": (lines("group = no-such-group"), OWN, (LINE, 9)),
    "not-own-user": (lines(), NOBODYS, (7, 8)),
    "not-own-group": (lines("user = 65534", "group = 1", base=without("user")), NOBODYS, (LINE + 1, 9)),
    "user-without-entry": (lines("user = 54321", "groups = yes", base=without("user")), OWN, (LINE + 1, 10)),
    "no-program": (lines("server = /no/such/program", base=without("server")), OWN, (LINE, 10)),
    "no-port": (lines(base=without("port").replace("type = UNLISTED\n", "\n", 1)), OWN, (1, 1)),
    "unlisted": (lines(base=SERVICE.replace("type = UNLISTED\n", "\n", 1)), OWN, (5, 8)),
    "other-port": (lines(base=SERVICE.replace("type = UNLISTED\n", "\n", 1).replace("a", "ftp", 1)), OWN, (5, 8)),
    "raw-socket": (lines(base=SERVICE.replace("stream", "raw").replace("type = UN", "protocol = icmp\ntype = UN")), OWN,
                   (5, 15)),
    "bad-address-entry": (lines("no_access = 10.0.0.0/8 10.0.0.1-9"), OWN, (LINE, 24)),
    "counts-as": (lines("only_from = 10.0.0.1", "only_from += 10.0.0.2 10.0.0.0/33"), OWN, (LINE + 1, 23)),
    "refusal-overruled": (lines("only_from = 10.0.0.1", "no_access = 9.9.9.9 0.0.0.0"), OWN, (LINE + 1, 21)),
    "bind-within": (lines("bind = 127.0.0.1 0.0.0.0"), OWN, (LINE, 8)),
    "bind-family": (lines("flags = IPv6", "bind = ::1 127.0.0.1"), OWN, (LINE + 1, 12)),
    "only-from-nobody": (lines("only_from = 300.1.1.1"), OWN, (LINE, 13)),
    "cannot-posix-spawn": (lines("umask = 022", "spawn_primitive = posix_spawn"), OWN, (LINE + 1, 19)),
    "no-clone": (lines("umask = 022"), replace(OWN, clone=False), (1, 1)),
    "same-socket": (lines() + "\n" + lines(base=SERVICE.replace("service a", "service b")), OWN, (15, 8)),
    "not-own-nice": (lines("user = 65534", "nice = -1", base=without("user")), NOBODYS, (LINE + 1, 8)),
    "limit-cut": (lines("rlimit_files = 5000"), lacking(CAP_SYS_RESOURCE), (LINE, 16)),
    "unix-access": (lines("only_from = 10.0.0.1", base=UNIX), OWN, (LINE + 1, 13)),
    "unix-access-inherited": ("defaults\n{\nno_access = 10.0.0.1\n}\n" + lines(base=UNIX), OWN, (3, 13)),
    "per-source-unused": (lines("per_source = 3", base=SERVICE.replace("wait = no", "wait = yes")), OWN, (LINE, 14)),
    "no-effect-here": (lines("socket_mode = 0600"), OWN, (LINE, 15)),
    "spare-order": (lines("spawn = prefork", "min_spare = 9", "max_spare = 8", base=NOBODY), OWN, (LINE + 1, 13)),
    "pool-refused": (lines("spawn = zygote"), OWN, (LINE, 9)),
    "pool-unguarded": (lines("spawn = zygote", base=NOBODY), replace(OWN, guard=None), (LINE, 9)),
    "no-handler": (lines("spawn = worker", "handler = no_such:f", base=without("server")), OWN, (LINE + 1, 11)),
    "wait-access": (lines("only_from = 10.0.0.0", base=SERVICE.replace("wait = no", "wait = yes")), OWN, (LINE, 13)),
}

EXAMPLES |= {
    "cannot-become": (lines(base=NOBODY), lacking(CAP_SETUID), (7, 8)),
    "groups-stay": (lines(), lacking(CAP_SETGID), (7, 8)),
    "socket-owner": (lines("socket_group = 33", base=UNIX), lacking(CAP_CHOWN), (LINE + 1, 16)),
    "low-port": (lines("port = 79", base=without("port")), lacking(lowest_port=80), (LINE, 8)),
    "cannot-kill": (lines(base=NOBODY), lacking(CAP_KILL), (1, 1)),
    "roles-as-root": (lines(), lacking(CAP_SETUID), (1, 1)),
}

BY_HAND = {
    "cannot-exec", "no-host", "no-client", "too-many-services", "no-gain", "tcp-wrappers", "unix-without-path",
    "no-interpreter",
}  # fmt: skip
"""Tested below and in test_handler.py: they need files, or are written another way."""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine whose /etc holds no rules, and where ftp is port 21."""
    monkeypatch.setattr(plan, "WRAPPER_FILES", ())
    forget_lookups()

    def listed(name: str, protocol: str) -> int | None:
        return 21 if (name, protocol) == ("ftp", "tcp") else None

    monkeypatch.setattr(endpoints, "listed_port", listed)


def planned(folder: Path, text: str, machine: Surroundings = OWN, kind: str = "xinetd") -> tuple[Plan, Report]:
    path = folder / "x.conf"
    path.write_text(text)
    report = Report()
    return make_plan(load_config(str(path), kind=kind, report=report), machine, report), report


def said(report: Report) -> list[str]:
    return [str(diagnostic) for diagnostic in report]


def only(report: Report, code: str) -> Diagnostic:
    found = [diagnostic for diagnostic in report if diagnostic.code == code]
    assert len(found) == 1, said(report)
    return found[0]


@pytest.mark.parametrize("code", EXAMPLES)
def test_example(code: str, tmp_path: Path) -> None:
    text, machine, (line, column) = EXAMPLES[code]
    made, report = planned(tmp_path, text, machine)
    found = only(report, code)
    assert (found.place.line, found.place.column) == (line, column), said(report)
    error = found.severity is diagnostics.Severity.ERROR
    assert len(made.services) == text.count("service ") - error
    assert "{" not in found.text.replace("{1,300}", "").replace("{1,2,3}", "")


def test_set_user_id_without_effect(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    for mode, told in ((0o755, False), (0o4755, True), (0o2755, True)):
        program.chmod(mode)
        text = lines(f"server = {program}", base=without("server"))
        for machine, wanted in ((lacking(gains=False), told), (OWN, False)):
            assert ("no-gain" in [each.code for each in planned(tmp_path, text, machine)[1]]) == wanted


def test_unix_without_path(tmp_path: Path) -> None:
    text = lines("protocol = unix", f"bind = {'/' + 'x' * 107}", base=without("port"))
    made, report = planned(tmp_path, text)
    assert only(report, "unix-without-path").place.line == LINE + 1
    assert made.services == ()
    text = lines("protocol = unix", f"bind = {'/' + 'x' * 106}", base=without("port"))
    assert [*planned(tmp_path, text)[1]] == []


def test_tcp_wrappers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tmp_path / "hosts.deny"
    monkeypatch.setattr(plan, "WRAPPER_FILES", (str(rules), str(tmp_path / "missing")))
    rules.write_text("# nothing\n\n   # here\n")
    assert [*planned(tmp_path, lines())[1]] == []
    rules.write_text("# one rule\n\nALL: ALL\n")
    found = only(planned(tmp_path, lines())[1], "tcp-wrappers")
    assert (found.place.file, found.place.line) == (str(rules), 3)


def test_every_message_has_an_example() -> None:
    folder = Path(fastinetd.plan.__file__).parent
    files = sorted(folder.glob("*.py"))
    assert len(files) == 14
    sources = "".join(path.read_text() for path in files)
    used = set(re.findall(r'report\.add\(\s*"([a-z-]+)"', sources))
    assert used == EXAMPLES.keys() | BY_HAND
    assert used <= CATALOGUE.keys()


def test_a_service_left_out_takes_no_socket(tmp_path: Path) -> None:
    """b fails for one of its two addresses, so c may have the other."""
    text = ""
    for name, bind in (("a", "127.0.0.1"), ("b", "127.0.0.2 127.0.0.1"), ("c", "127.0.0.2")):
        text += "".join(f"{line}\n" for line in (f"service {name}", "{", "type = UNLISTED", "socket_type = stream"))
        text += "".join(f"{line}\n" for line in ("port = 7000", "wait = no", "user = root", "server = /bin/true"))
        text += f"bind = {bind}\n}}\n"
    made, report = planned(tmp_path, text)
    if any("bind" in each for each in said(report)):
        pytest.skip("bind takes one address")
    assert [service.id for service in made.services] == ["a", "c"]
    assert only(report, "same-socket").service == "b"


@pytest.mark.parametrize("entry", ["10.0.0.{1,300}", "1.{2,3}.4", "1.2.3.{4,}", "1..2", ".", "10.0.0.1,10.0.0.2",
                                   "10.0.0.0/0x8", "10.0.0.0/-1", "::/-1"])
@pytest.mark.parametrize("name", ["only_from", "no_access"])
def test_a_service_whose_refusal_would_get_lost_is_not_started(tmp_path: Path, name: str, entry: str) -> None:
    made, report = planned(tmp_path, lines(f"{name} = 10.0.0.9 {entry}"))
    assert made.services == ()
    assert only(report, "bad-value").place.column == len(f"{name} = 10.0.0.9 ") + 1
    assert repr(entry) in only(report, "bad-value").text
    assert len(said(report)) == 1


def test_a_list_of_defaults_that_lets_nobody_in_is_told_once(tmp_path: Path) -> None:
    text = "defaults\n{\nonly_from = 300.1.1.1\n}\n" + lines() + lines().replace("7000", "7001").replace("e a", "e b")
    found = only(planned(tmp_path, text)[1], "only-from-nobody")
    assert "each service that has it from `defaults` refuses everybody" in found.text


def test_broken_services_are_checked_for_user_and_program(tmp_path: Path) -> None:
    text = lines("nice = many", "server = /no/such", base=without("server"))
    report = planned(tmp_path, text)[1]
    assert {diagnostic.code for diagnostic in report} == {"bad-value", "no-program"}


def test_a_machine_without_etc_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = lines(base=without("port").replace("type = UNLISTED\n", "\n", 1))
    for path, told in (("/dev/null", False), (str(tmp_path / "services"), True)):
        monkeypatch.setattr(endpoints, "_SERVICES", path)
        problem = only(planned(tmp_path, text)[1], "no-port")
        assert ("which is not there (on Debian: apt install netbase)" in problem.text) is told


def test_reasons_of_no_program(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    if os.geteuid() == 0:
        plain.chmod(0o644)
    reasons = {plain: "not executable", tmp_path: "not a file", tmp_path / "x": "no such file",
               "/bin/true/": "Not a directory"}
    for path, reason in reasons.items():
        report = planned(tmp_path, lines(f"server = {path}", base=without("server")))[1]
        assert reason in only(report, "no-program").text


def test_a_program_that_exec_refuses(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_bytes(b"#!/bin/sh\r\n")
    script.chmod(0o755)
    report = planned(tmp_path, lines(f"server = {script}", base=without("server")))[1]
    found = only(report, "cannot-exec")
    assert "carriage return" in found.text
    assert (found.place.line, found.place.column) == (LINE, 10)


def test_each_bad_entry_has_its_own_place(tmp_path: Path) -> None:
    """Also after `-=`, below `defaults`, and in a service that is not started for another error."""
    text = "defaults\n{\nonly_from = 127.0.0. 10.0.0.0\n}\n" + lines(
        "only_from += 192.0.2.1 10.0.0.*", "only_from -= 10.0.0.0", "only_from += 300.1.1.1", "nice = many"
    )
    made, report = planned(tmp_path, text)
    found = [(d.place.line - 4, d.place.column) for d in report if d.code == "bad-address-entry"]
    assert found == [(-1, 13), (LINE, 24), (LINE + 2, 14)]
    assert made.services == ()


def test_hosts_that_name_nothing(tmp_path: Path) -> None:
    need_localhost()
    text = lines("bind = 127.0.0.1 lo no-such-host.invalid", "bind += ::1 localhost no-such-interface0")
    path = tmp_path / "x.conf"
    path.write_text(text)
    report = Report()
    endpoints.check_hosts(load_config(str(path), kind="xinetd", report=report).services, report)
    found = [(d.place.line, d.place.column) for d in report if d.code == "no-host"]
    assert found == [(LINE, 21), (LINE + 1, 23)]


def test_clients_that_have_no_name(tmp_path: Path) -> None:
    need_localhost()
    path = tmp_path / "x.conf"
    path.write_text(lines("only_from = 127.0.0.1 localhost .domain no-such-host.invalid", "no_access += ::1 ALL"))
    report = Report()
    check_names(load_config(str(path), kind="xinetd", report=report).services, report)
    found = [(d.place.line, d.place.column) for d in report if d.code == "no-client"]
    assert found == [(LINE, 41), (LINE + 1, 18)]


def test_more_services_than_the_board_has_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST_SERVICES", 2)
    names = ("a", "bad", "b", "c", "d")
    texts = [lines(base=SERVICE.replace("service a", f"service {name}").replace("7000", f"700{number}"))
             for number, name in enumerate(names)]
    texts[1] = texts[1].replace("/bin/true", "/no/such")
    made, report = planned(tmp_path, "".join(texts))
    assert [planned.id for planned in made.services] == ["a", "b"]
    found = only(report, "too-many-services")
    assert (found.service, found.place.line) == ("c", 1 + 3 * texts[0].count("\n"))
    assert "c and 1 after it" in found.text


def test_families_that_go_with_addresses(tmp_path: Path) -> None:
    text = lines("flags = IPv4 IPv6", "bind = ::1 127.0.0.1")
    made, report = planned(tmp_path, text)
    assert [*report] == []
    assert [(each.family, each.host) for each in made.services[0].endpoints] == [
        (socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")
    ]  # fmt: skip


INTERNAL = "service echo\n{\ntype = INTERNAL UNLISTED\nsocket_type = stream\nport = 7000\nwait = no\nuser = root\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (lines("group = root", "instances = 3", base=INTERNAL), []),
        (lines("server = /bin/true", "server_args = a", "nice = 3", "umask = 022", "env = A=b", "passenv = PATH",
               "rlimit_cpu = 3", "rlimit_files = 9", "groups = yes", "spawn_primitive = posix_spawn", base=INTERNAL),
         ["server", "server_args", "nice", "umask", "env", "passenv", "rlimit_cpu", "rlimit_files", "groups",
          "spawn_primitive"]),
        ("defaults\n{\numask = 022\nspawn_primitive = posix_spawn\ngroups = yes\nv6only = yes\n}\n" +
         lines("flags = IPv4", base=INTERNAL), []),
        (lines("socket_user = root", "socket_group = root", "socket_mode = 0600"), [
            "socket_user", "socket_group", "socket_mode"]),
        (lines("socket_user = root", "socket_mode = 0600", base=UNIX), []),
        (lines("port = 7000", "v6only = yes", base=UNIX), ["port", "v6only"]),
        (lines("flags = IPv4", "v6only = yes"), ["v6only"]),
        (lines("flags = IPv4 IPv6", "v6only = yes"), []),
        (lines("spawn = zygote", "max_age = 3", base=INTERNAL), ["spawn", "max_age"]),
        (lines("snapshot = main", "min_spare = 1", "max_workers = 3", "max_rss = 5M", "allow_shared_layout = no"),
         ["snapshot", "min_spare", "max_workers", "max_rss", "allow_shared_layout"]),
        ("defaults\n{\nsnapshot = first_io\nmax_spare = 9\nmax_age = 60\n}\n" + lines(), []),
        (lines("env = REMOTE_HOST=a A=b PROTO=c REMOTE_HOST=d"), ["REMOTE_HOST in env", "PROTO in env"]),
    ],
)  # fmt: skip
def test_no_effect(text: str, named: list[str], tmp_path: Path) -> None:
    made, report = planned(tmp_path, text)
    assert [found.text.partition(" has no effect")[0] for found in report] == named, said(report)
    assert len(made.services) == 1


def test_internal_service_of_inetd(tmp_path: Path) -> None:
    report = planned(tmp_path, "echo stream tcp nowait root internal\n", kind="inetd")[1]
    assert "no-effect-here" not in {found.code for found in report}


def test_access_to_a_unix_socket(tmp_path: Path) -> None:
    """Its own lists cannot be kept, so it is left out; those of `defaults`, wherever they stand, are not meant for it
    alone. Adding to an inherited list is a list of its own."""
    defaults = "defaults\n{\nonly_from = 10.0.0.0/8\nper_source = 3\n}\n"
    made, report = planned(tmp_path, lines(base=UNIX.replace("wait = no", "wait = yes")) + defaults)
    assert [found.code for found in report] == ["per-source-unused", "unix-access-inherited"]
    assert len(made.services) == 1
    made, report = planned(tmp_path, lines("only_from += 192.0.2.1", "per_source = UNLIMITED", base=UNIX) + defaults)
    assert [found.code for found in report] == ["unix-access"]
    assert made.services == ()


def test_nice_without_root(tmp_path: Path) -> None:
    text = lines("user = 65534", "nice = 0", base=without("user"))
    assert [*planned(tmp_path, text, NOBODYS)[1]] == []
    assert [*planned(tmp_path, lines("nice = -5"))[1]] == []
    low = replace(NOBODYS, nice=-20)
    assert [*planned(tmp_path, text.replace("nice = 0", "nice = -5"), low)[1]] == []
