"""What root may in a container or a user namespace, and what is served there."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Config, Place, Service
from fastinetd.plan import Plan, make_plan
from fastinetd.privileges import CAP_CHOWN, CAP_SETGID, CAP_SETUID, Privileges, nobody, own_privileges
from fastinetd.starts import Surroundings

ALL = 2**64 - 1
MACHINE = Surroundings(environ=(), root=True, uid=0, gid=0, nice=0, files=(1024, 4096), ids=(0, 0), may=Privileges(),
                       groups=frozenset({0, 4}))
SERVICE = Service("a", "a", Place("x.conf", 1), types=frozenset({"UNLISTED"}), port=7001, server="/bin/true",
                  argv=("true",), user="root")
ROOT, OTHER, GROUP = SERVICE, replace(SERVICE, user="65534"), replace(SERVICE, group="33")
ONE = (range(1),)


def made(service: Service, may: Privileges) -> tuple[Plan, list[str]]:
    report = Report()
    plan = make_plan(Config("x.conf", (service,)), replace(MACHINE, may=may), report)
    return plan, [each.code for each in report if each.code in ("cannot-become", "groups-stay")]


@pytest.mark.parametrize(("may", "served", "groups"), [
    (Privileges(), (ROOT, OTHER, GROUP), ()),
    (Privileges(ALL & ~(1 << CAP_SETUID)), (ROOT, GROUP), ()),
    (Privileges(ALL & ~(1 << CAP_SETGID)), (ROOT,), None),
    (Privileges(0), (ROOT,), None),
    (Privileges(uids=ONE, gids=ONE, setgroups=False), (ROOT,), None),
    (Privileges(uids=ONE), (ROOT, GROUP), ()),
    (Privileges(setgroups=False), (ROOT, GROUP), None),
])  # fmt: skip
def test_what_is_served(may: Privileges, served: tuple[Service, ...], groups: tuple[int, ...] | None) -> None:
    """Services of root itself always are, with the groups that cannot be left if need be; no other has root's."""
    for service in (ROOT, OTHER, GROUP):
        plan, codes = made(service, may)
        assert len(plan.services) == (service in served), codes
        if service in served:
            assert plan.services[0].start.groups == groups
            assert codes == ["groups-stay"] * (groups is None)
        else:
            assert codes == ["cannot-become"]


def test_groups_that_are_asked_for() -> None:
    """`groups = yes` is not served with others than the user's."""
    may = Privileges(setgroups=False)
    assert made(replace(ROOT, groups=True), may)[1] == ["cannot-become"]
    assert made(replace(ROOT, groups=True), Privileges())[1] == []


def test_what_it_already_is_needs_nothing() -> None:
    report = Report()
    machine = replace(MACHINE, may=Privileges(0), groups=frozenset())
    (service,) = make_plan(Config("x.conf", (ROOT,)), machine, report).services
    assert (service.start.ids, service.start.groups) == (None, None)
    assert not [each for each in report if each.code == "groups-stay"]


def test_whom_roles_can_be() -> None:
    best = nobody(Privileges())
    assert best.uid and best.gid
    assert best.groups
    assert best.bar is None
    for may, changes in (
        (Privileges(ALL & ~(1 << CAP_SETUID)), (False, True, True)),
        (Privileges(ALL & ~(1 << CAP_SETGID)), (True, False, False)),
        (Privileges(uids=ONE, gids=ONE, setgroups=False), (False, False, False)),
        (Privileges(setgroups=False), (True, True, False)),
        (Privileges(0), (False, False, False)),
    ):
        who = nobody(may)
        assert (who.uid is not None, who.gid is not None, who.groups) == changes
        assert who.bar is not None


def test_owners_of_sockets() -> None:
    every, none = Privileges(), Privileges(ALL & ~(1 << CAP_CHOWN))
    assert every.bar_to_owner(33, 33, 0, {0}) is None
    assert Privileges(uids=ONE).bar_to_owner(33, None, 0, {0}) is not None
    assert Privileges(gids=ONE).bar_to_owner(None, 33, 0, {0}) is not None
    assert [none.bar_to_owner(uid, gid, 0, {0, 4}) is None for uid, gid in (
        (None, None), (0, None), (0, 4), (None, 4), (33, None), (None, 33), (33, 4),
    )] == [True, True, True, True, False, False, False]  # fmt: skip


def test_of_this_process() -> None:
    found = own_privileges()
    assert os.geteuid() in found.uids[0] or len(found.uids) > 1
    assert found.lowest_port in (0, 1024) or found.lowest_port > 1
