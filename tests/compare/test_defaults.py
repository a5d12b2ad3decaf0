"""`defaults`, attribute by attribute, beside xinetd: what may stand there, what it does to services, what is refused.

Each case is a block of `defaults` above the same services. xinetd reads it, and its dump and its listeners tell what
came of it; of ours the Plan does. Where they differ on purpose, the case says how.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config
from fastinetd.config.settings import SETTINGS, Origin, Scope
from fastinetd.plan.plan import make_plan
from fastinetd.plan.surroundings import Surroundings
from support.clients import ask, free_port
from support.daemon import Daemon
from support.original import can_run, listeners_of, ours, run_original
from support.texts import entry

needs_xinetd = pytest.mark.skipif(not can_run(), reason="needs root, namespaces, xinetd and ss")

ENV = {"PATH": os.environ["PATH"], "TERM": "dumb", "ONE": "1"}

HEAD = "\n    type = UNLISTED\n    socket_type = stream\n    wait = no\n    user = nobody\n    server = /bin/date\n"
DATAGRAMS = HEAD.replace("stream", "dgram").replace("wait = no", "wait = yes")
SERVICES = (
    f"service plain\n{{{HEAD}    port = 7001\n}}\n"
    f"service own\n{{{HEAD}    port = 7002\n    bind = 127.0.0.3\n"
    "    only_from = 127.0.0.3\n    no_access = 127.0.0.4\n"
    "    passenv = ONE\n    log_on_success = EXIT\n    log_on_failure = ATTEMPT\n    umask = 027\n    groups = no\n"
    "    per_source = 7\n    instances = 8\n    cps = 9 10\n    log_type = SYSLOG daemon\n}\n"
    f"service more\n{{{HEAD}    port = 7003\n    only_from += 127.0.0.3\n    no_access += 127.0.0.4\n"
    "    passenv += ONE\n    log_on_success += EXIT\n    log_on_failure += ATTEMPT\n}\n"
    f"service less\n{{{HEAD}    port = 7004\n    only_from -= 127.0.0.5\n    no_access -= 127.0.0.5\n"
    "    passenv -= PATH\n    log_on_success -= PID\n    log_on_failure -= HOST\n}\n"
    f"service waits\n{{{DATAGRAMS}    port = 7005\n}}\n"
    "service echo\n{\n    type = INTERNAL UNLISTED\n    socket_type = stream\n    wait = no\n    port = 7006\n}\n"
)  # fmt: skip

LOGGED = "log_type = SYSLOG daemon info"


@dataclass(frozen=True)
class Case:
    """Lines of `defaults`; `name` is the attribute, `differs` what is meant to differ (dump's names, or `fatal`)."""

    name: str
    lines: tuple[str, ...]
    differs: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return "; ".join(self.lines)


def case(*lines: str, differs: str = "") -> Case:
    return Case(lines[-1].split()[0], lines, frozenset(differs.split(",")) - {""})


EFFECTIVE = [
    case("bind = 127.0.0.2"),
    case("bind = ::1"),
    case("bind = localhost"),
    case("interface = 127.0.0.2"),
    case("bind ="),
    case("bind = 127.0.0.2", "bind = 127.0.0.5", differs="listeners"),
    case("bind = 127.0.0.2", "interface = 127.0.0.5", differs="listeners"),
    case("groups = yes"),
    case("umask = 077"),
    case("per_source = 3"),
    case("per_source = UNLIMITED"),
    case("per_source = 3", "per_source = 4"),
    case("instances = 5"),
    case("instances = 0"),
    case("instances = UNLIMITED"),
    case("cps = 7 8"),
    case("cps = 0 0"),
    case("cps = 7"),
    case("max_load = 3.5"),
    case("v6only = no"),
    case("passenv = PATH"),
    case("passenv = PATH", "passenv = TERM"),
    case("passenv = PATH", "passenv += TERM"),
    case("passenv = PATH TERM", "passenv -= PATH"),
    case("passenv = PATH", "passenv ="),
    case("passenv ="),
    case("passenv = NOT_THERE", differs="Passenv"),
    case("only_from = 127.0.0.5"),
    case("only_from = 127.0.0.5", "only_from = 127.0.0.6"),
    case("only_from = 127.0.0.5", "only_from += 127.0.0.6"),
    case("only_from = 127.0.0.5 127.0.0.6", "only_from -= 127.0.0.5"),
    case("only_from = 127.0.0.5", "only_from ="),
    case("only_from = 127.0.0.0/33"),
    case("no_access = 127.0.0.5"),
    case("no_access = 127.0.0.5", "no_access = 127.0.0.6"),
    case("no_access = 127.0.0.5 10.0.0.0", "no_access += 127.0.0.6"),
    case("no_access = 127.0.0.5 127.0.0.6", "no_access -= 127.0.0.5"),
    case(LOGGED),
    case("log_type = SYSLOG local3 debug"),
    case("log_type = FILE /run/records"),
    case("log_type = FILE /run/records 100K 200K"),
    case(LOGGED, "log_on_success = PID"),
    case(LOGGED, "log_on_success = PID", "log_on_success = HOST"),
    case(LOGGED, "log_on_success = PID HOST", "log_on_success -= HOST"),
    case(LOGGED, "log_on_success = PID", "log_on_success ="),
    case(LOGGED, "log_on_failure = HOST"),
    case(LOGGED, "log_on_failure = HOST", "log_on_failure = ATTEMPT"),
    case("enabled = plain echo"),
    case("enabled = plain", "enabled = echo"),
    case("enabled ="),
    case("disabled = plain"),
    case("disabled = plain", "disabled = echo"),
    case("disabled ="),
    case("enabled = plain echo", "disabled = echo"),
    case("banner = /etc/hostname"),
    case("banner_success = relative"),
    case("banner_fail = /no/such/file"),
]

FOREIGN = [
    case(f"{name} = {value}")
    for name, value in {
        "id": "x", "type": "UNLISTED", "flags": "IPv4", "disable": "yes", "socket_type": "stream", "protocol": "tcp",
        "wait": "no", "port": "7002", "server": "/bin/true", "server_args": "x", "user": "root", "group": "root",
        "nice": "5", "env": "A=B", "rlimit_as": "100M", "rlimit_cpu": "10", "rlimit_data": "10M", "rlimit_rss": "10M",
        "rlimit_stack": "10M", "rlimit_files": "100", "access_times": "8:00-9:00", "libwrap": "x", "deny_time": "x",
        "redirect": "127.0.0.1 80", "rpc_version": "1", "rpc_number": "9", "mdns": "yes", "no_such_attribute": "3",
    }.items()
]  # fmt: skip
"""No business in `defaults`: a warning, and nothing else. Not even the value is looked at."""

BAD = [
    case(line)
    for line in (
        "groups = maybe", "umask = 999", "umask = 1777", "per_source = x", "instances = -1", "cps = 5 x",
        "max_load = 0", "v6only = maybe", "only_from = a,b", "no_access = a,b", "log_type = SYSLOG dameon",
        "log_type = FILE",
        "log_on_success = FOO", "log_on_failure = PID", "bind = 127.0.0.2/32", "bind = /run/x", "bind = 127.0.0.300",
    )
] + [
    case("bind = no-such-interface", differs="fatal"),
    case(LOGGED, "log_type = SYSLOG auth", differs="fatal"),
]  # fmt: skip
"""Bad values in `defaults`: nothing is started."""


def test_every_attribute_of_xinetd_is_tried() -> None:
    theirs = {name: row for name, row in SETTINGS.items() if row.origin is Origin.XINETD}
    tried = {each.name for each in EFFECTIVE}
    assert tried == {name for name, row in theirs.items() if row.scope is not Scope.SERVICE} - {"mdns"}
    assert {each.name for each in FOREIGN} - {"no_such_attribute"} == theirs.keys() - tried


@needs_xinetd
@pytest.mark.parametrize("tried", EFFECTIVE + FOREIGN + BAD, ids=str)
def test_defaults(tried: Case, tmp_path: Path) -> None:
    conf = tmp_path / "x.conf"
    lines = "".join(f"    {line}\n" for line in tried.lines)
    conf.write_text(f"defaults\n{{\n{lines}}}\n{SERVICES}")
    theirs = run_original(conf, env=ENV)
    if not theirs.allowed:
        pytest.skip("mounting is not allowed here")
    report = Report()
    config = load_config(str(conf), kind="xinetd", report=report)
    environ = tuple(f"{name}={value}".encode() for name, value in ENV.items())
    plan = make_plan(config, replace(Surroundings(), environ=environ), report)
    said = [str(diagnostic) for diagnostic in report]
    if tried in BAD:
        assert theirs.fatal
        assert config.fatal is ("fatal" not in tried.differs), said
        assert not config.fatal or any(found.place.line == 2 + len(tried.lines) for found in report)
        return
    assert not theirs.fatal
    assert not config.fatal, said
    if tried in FOREIGN:
        assert "should not be in default section" in theirs.log
        assert any(found.place.line == 3 for found in report), said
    started = {planned.id: planned for planned in plan.services}
    assert started.keys() == theirs.services.keys(), said
    assert len(started) == 6 or tried.name in ("enabled", "disabled")
    for name, planned in started.items():
        (before,), after = theirs.services[name], ours(planned)
        different = {what: (before[what], after.get(what)) for what in before if before[what] != after.get(what)}
        assert different.keys() <= tried.differs, (name, different)
    if "listeners" in tried.differs:
        assert theirs.listeners < frozenset().union(*map(listeners_of, started.values()))
    else:
        assert theirs.listeners == frozenset().union(*map(listeners_of, started.values()))


def test_bind_in_defaults_is_bound(launch: Callable[..., Daemon]) -> None:
    """The daemon itself: what `defaults` bind is reached there, and nowhere else."""
    port, own = free_port(), free_port()
    text = "defaults\n{\n    bind = 127.0.0.2\n}\n"
    for name, number, more in (("a", port, {}), ("b", own, {"bind": "127.0.0.3"})):
        made = entry(name, number, "/bin/echo", "hello", **more)
        text += made if more else made.replace("    bind = 127.0.0.1\n", "")
    launch(text)
    assert ask(port, host="127.0.0.2") == b"hello\n"
    assert ask(own, host="127.0.0.3") == b"hello\n"
    for host, number in (("127.0.0.1", port), ("127.0.0.3", port), ("127.0.0.2", own)):
        with pytest.raises(ConnectionRefusedError):
            ask(number, host=host)
