"""What the table of attributes says of inheritance, and of what an attribute is of."""

import re
from pathlib import Path

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config
from fastinetd.config.model import Config, Service
from fastinetd.config.settings import ANY, POOL_SETTINGS, SETTINGS, SPAWN_OF, Inherit, Of, Scope

GOLDEN = Path(__file__).parents[2] / "golden"
SERVICE = """
service a
{
    type = UNLISTED
    socket_type = stream
    port = 7000
    wait = no
    user = root
    server = /bin/true
}
"""
LINE = "7001 stream tcp nowait root /bin/true"
BOTH = [name for name, setting in SETTINGS.items() if setting.scope is Scope.BOTH]


def example(name: str) -> str:
    """A line that says the attribute: the first of its golden pair."""
    found = re.search(rf"^ *{name} = .*$", (GOLDEN / f"{name}.conf").read_text(), re.MULTILINE)
    assert found is not None
    return found[0]


def services(folder: Path, defaults: str, inetd: str = LINE) -> tuple[Service, Service]:
    """A service of xinetd.conf and one of inetd.conf, under the same defaults."""
    (folder / "x.conf").write_text(f"defaults\n{{\n{defaults}\n}}\n{SERVICE}")
    (folder / "inetd.conf").write_text(f"{inetd}\n")
    config: Config = load_config(str(folder / "x.conf"), report=Report(), inetd_compat=str(folder / "inetd.conf"))
    ours, theirs = config.services
    return ours, theirs


@pytest.mark.parametrize("name", BOTH)
def test_defaults_hold_for_lines_of_inetd(name: str, tmp_path: Path) -> None:
    """Each attribute of `defaults` reaches a line as it reaches a service of xinetd.conf, unless its row says that it
    does not, or that it has no effect in any service."""
    setting = SETTINGS[name]
    field = setting.part_of or setting.key
    unchanged = services(tmp_path, "")
    ours, theirs = services(tmp_path, example(name))
    if setting.inherit is Inherit.NEVER or setting.unused is ANY:
        assert getattr(theirs, field, None) == getattr(unchanged[1], field, None)
    else:
        assert getattr(theirs, field) == getattr(ours, field) != getattr(unchanged[0], field)


@pytest.mark.parametrize(
    ("defaults", "line", "field", "value"),
    [
        ("groups = no", LINE, "groups", True),
        ("instances = 5", "7001 stream tcp nowait/3 root /bin/true", "instances", 3),
        ("spawn = zygote", "7001 stream tcp nowait root /bin/true;spawn=exec", "spawn", "exec"),
        ("send_buffer = 4096", "7001 stream tcp,sndbuf=8192 nowait root /bin/true", "send_buffer", 8192),
        ("interface = 127.0.0.2", "127.0.0.3:7001 stream tcp nowait root /bin/true", "bind", ("127.0.0.3",)),
        ("interface = 127.0.0.2", "*:7001 stream tcp nowait root /bin/true", "bind", ("127.0.0.2",)),
    ],
)
def test_what_a_line_says_stays(defaults: str, line: str, field: str, value: object, tmp_path: Path) -> None:
    assert getattr(services(tmp_path, defaults, line)[1], field) == value


def test_rate_of_a_line_gives_way(tmp_path: Path) -> None:
    """With or without one in `defaults`: xinetd has a rate for every service."""
    line = "7001 stream tcp nowait.7 root /bin/true"
    found = [services(tmp_path, defaults, line)[1].rate for defaults in ("", "cps = 9 3")]
    assert [(rate.count, rate.seconds, rate.pause) for rate in found if rate] == [(50, 1.0, 10), (9, 1.0, 3)]


def test_exceptions_from_inheritance() -> None:
    """An attribute that both may say is inherited like any other, but for these."""
    found = {name: setting.inherit for name, setting in SETTINGS.items() if setting.inherit is not Inherit.UNWRITTEN}
    assert found == {"v6only": Inherit.NEVER, "cps": Inherit.ALWAYS}


def test_pools_are_of_programs() -> None:
    """None of them is anything to a built-in service; those of a kind of process say so, and no others do."""
    assert {setting.of for setting in POOL_SETTINGS.values()} == {Of.PROGRAM, *SPAWN_OF}
    assert {name for name, setting in SETTINGS.items() if setting.of in SPAWN_OF} < POOL_SETTINGS.keys()


def test_limits_are_of_programs() -> None:
    limits = [setting for name, setting in SETTINGS.items() if name.startswith("rlimit_")]
    assert len(limits) == 6
    assert {setting.of for setting in limits} == {Of.PROGRAM}
