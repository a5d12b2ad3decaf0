"""Which service of a new configuration is which of the old one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.inetd import read_inetd
from fastinetd.config.model import Config, Family, Place, Service
from fastinetd.plan.model import Plan
from fastinetd.plan.plan import make_plan
from fastinetd.plan.surroundings import Surroundings
from fastinetd.services.identity import continued_services
from fastinetd.system.privileges import Privileges

MACHINE = Surroundings(environ=(), root=True, uid=0, gid=0, nice=0, files=(1024, 4096), ids=None,
                       may=Privileges())

FIRST = Service("a", "a", Place("x.conf", 1), types=frozenset({"UNLISTED"}), port=7001, bind=("127.0.0.1",),
                user="root", server="/bin/true", argv=("true",))


def plan_of(*services: Service) -> Plan:
    return make_plan(Config("x.conf", services), MACHINE, Report())


def matched(old: Plan, new: Plan) -> list[int | None]:
    """For each new service the position of the old one that it continues."""
    found = continued_services(old.services, new.services)
    return [found.get(number) for number in range(len(new.services))]


@pytest.mark.parametrize("values", [
    {"port": 7002}, {"bind": ()}, {"bind": ("127.0.0.1", "127.0.0.2")}, {"bind": ("127.0.0.3",)}, {"wait": True},
    {"protocol": "udp", "socket_type": "dgram", "wait": True}, {"family": Family.IPV6, "bind": ()}, {"name": "b"},
    {"protocol": "unix", "family": Family.UNIX, "bind": ("/run/x",)}, {"user": "65534"}, {"server": "/bin/cat"},
    {"types": frozenset({"INTERNAL", "UNLISTED"}), "name": "echo"}, {"instances": 1}, {"place": Place("y.conf", 9)},
], ids=lambda values: " ".join(values))  # fmt: skip
def test_whatever_changes_a_service_is_its_name(values: dict[str, Any]) -> None:
    other = replace(FIRST, id="other", port=7009)
    assert matched(plan_of(other, FIRST), plan_of(replace(FIRST, **values), other)) == [1, 0]


def test_another_name_is_another_service() -> None:
    assert matched(plan_of(FIRST), plan_of(replace(FIRST, id="b"))) == [None]


def test_names_that_change_places() -> None:
    """The ports are exchanged, the names are not."""
    second = replace(FIRST, id="b", port=7002)
    assert matched(plan_of(FIRST, second), plan_of(replace(FIRST, port=7002), replace(second, port=7001))) == [0, 1]


def test_one_id_twice() -> None:
    """xinetd takes that where the sockets are others: the sockets tell which is which, then the protocol."""
    udp = replace(FIRST, protocol="udp", socket_type="dgram", wait=True)
    there = replace(FIRST, bind=("127.0.0.2",))
    old = plan_of(FIRST, udp, there)
    assert matched(old, plan_of(there, udp, FIRST)) == [2, 1, 0]
    assert matched(old, plan_of(there, udp)) == [2, 1]
    assert matched(old, plan_of(replace(there, bind=("127.0.0.2", "127.0.0.9")), replace(udp, port=7008), FIRST)) == [
        2, 1, 0,
    ]  # fmt: skip
    assert matched(plan_of(FIRST), plan_of(there, FIRST)) == [None, 0]


LINES = [f"127.0.0.{number}:ftp stream tcp nowait root /bin/true true\n" for number in range(1, 6)]
UDP = "127.0.0.1:ftp dgram udp wait root /bin/true true\n"


def lines(*texts: str) -> Plan:
    report = Report()
    config = read_inetd("".join(texts), "inetd.conf", "debian", report)
    services = [replace(each, port=7021, types=frozenset({"UNLISTED"})) for each in config.services]
    return plan_of(*services)


def test_numbered_lines_are_known_by_what_they_listen_on() -> None:
    """`ftp`, `ftp-tcp`, `ftp-2`: the numbers move when a line comes or goes."""
    one, two, three, four, five = LINES
    assert [each.id for each in lines(one, two, three).services] == ["ftp", "ftp-tcp", "ftp-2"]
    assert matched(lines(one, two, three), lines(two, three)) == [1, 2]
    assert matched(lines(two, three), lines(one, two, three)) == [None, 0, 1]
    assert matched(lines(one, two, three), lines(one, four, three)) == [0, 1, 2]  # an address was changed
    assert matched(lines(one, two), lines(five, UDP, two)) == [0, None, 1]
    assert matched(lines(one, UDP), lines(UDP)) == [1]
    assert matched(lines(one), lines(UDP)) == [None]


def test_a_line_that_moves_to_xinetd_conf() -> None:
    before = lines(LINES[0])
    moved = replace(before.services[0].service, numbered=False)
    assert matched(before, plan_of(moved)) == [0]


def test_many_lines_of_one_name() -> None:
    """Each is found by a look-up: all pairs of these would take minutes."""
    many = [replace(FIRST, bind=(f"127.1.{number // 250}.{number % 250}",)) for number in range(6000)]
    old = plan_of(*many)
    new = plan_of(*many[1:], many[0])
    assert matched(old, new) == [*range(1, 6000), 0]
    assert len(continued_services(old.services, plan_of(*(replace(each, port=7009) for each in many)).services)) == 6000
