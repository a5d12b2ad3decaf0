"""What root may in a container or a user namespace, and what is served there."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Config, Place, Service
from fastinetd.plan.model import Plan
from fastinetd.plan.plan import make_plan
from fastinetd.plan.surroundings import Surroundings
from fastinetd.system import privileges
from fastinetd.system.privileges import (
    CAP_CHOWN,
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_NICE,
    CAP_SYS_RESOURCE,
    EVERY,
    USERS,
    Privileges,
    bar_to_kill,
    choose_nobody,
    own_privileges,
)

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
            assert plan.services[0].exec_context.groups == groups
            assert codes == ["groups-stay"] * (groups is None)
        else:
            assert codes == ["cannot-become"]


@pytest.mark.parametrize(("groups", "said"), [((0,), "groups-stay"), ((0, 33), "cannot-become")])
def test_groups_that_are_asked_for(groups: tuple[int, ...], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`groups = yes` is not served without the user's further groups."""
    monkeypatch.setattr("fastinetd.plan.users._groups_of", lambda name, gid: groups)
    assert made(replace(ROOT, groups=True), Privileges(setgroups=False))[1] == [said]
    assert made(replace(ROOT, groups=True), Privileges())[1] == []


def test_what_it_already_is_needs_nothing() -> None:
    report = Report()
    machine = replace(MACHINE, may=Privileges(0), groups=frozenset())
    (service,) = make_plan(Config("x.conf", (ROOT,)), machine, report).services
    assert (service.exec_context.ids, service.exec_context.groups) == (None, None)
    assert not [each for each in report if each.code == "groups-stay"]


def test_whom_roles_can_be() -> None:
    best = choose_nobody(Privileges())
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
        who = choose_nobody(may)
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


def test_what_is_missing_is_named() -> None:
    """By the numbers of linux/capability.h and the words that containers and units know."""
    assert (CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_NICE, CAP_SYS_RESOURCE) == (0, 5, 6, 7, 23, 24)
    none, few = Privileges(0), Privileges(uids=ONE, gids=ONE)
    said = [
        none.bar_to_id("uid", 33, 0), none.bar_to_id("gid", 33, 0), none.bar_to_groups(()),
        none.bar_to_owner(33, None, 0, ()), bar_to_kill(none),
        few.bar_to_id("uid", 33, 0), few.bar_to_id("gid", 34, 0), few.bar_to_groups((35,)),
        few.bar_to_owner(36, None, 0, ()), few.bar_to_owner(None, 37, 0, ()),
    ]  # fmt: skip
    assert [re.findall(r"CAP_[A-Z]+|[ug]id \d+", bar.reason) for bar in said if bar] == [
        ["CAP_SETUID"], ["CAP_SETGID"], ["CAP_SETGID"], ["CAP_CHOWN"], ["CAP_KILL"],
        ["uid 33"], ["gid 34"], ["gid 35"], ["uid 36"], ["gid 37"],
    ]  # fmt: skip
    assert all(f"--cap-add {bar.reason[-6:]}" in bar.remedy for bar in said[:3] if bar)


def test_whom_roles_are_named() -> None:
    """One of the daemon's own before the one who is everybody's; without any entry, the number of nobody."""
    assert USERS == ("fastinetd", "_fastinetd", "nobody")


@pytest.mark.parametrize(("known", "may", "wanted"), [
    ({}, Privileges(), (65534, 65534)),
    ({"nobody": (99, 98)}, Privileges(), (99, 98)),
    ({"nobody": (99, 98), "_fastinetd": (201, 202)}, Privileges(), (201, 202)),
    ({"nobody": (99, 98), "fastinetd": (301, 302), "_fastinetd": (201, 202)}, Privileges(), (301, 302)),
    ({"nobody": (99, 98), "fastinetd": (301, 302)}, Privileges(uids=(range(100),), gids=(range(100),)), (99, 98)),
])  # fmt: skip
def test_the_first_that_can_be_had(
    known: dict[str, tuple[int, int]], may: Privileges, wanted: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def entry(name: str) -> SimpleNamespace:
        uid, gid = known[name]
        return SimpleNamespace(pw_uid=uid, pw_gid=gid)

    monkeypatch.setattr("fastinetd.system.privileges.pwd.getpwnam", entry)
    assert (choose_nobody(may).uid, choose_nobody(may).gid) == wanted


def test_read_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Capabilities that are effective count, not those that could be."""
    status = {"Name": "x", "CapPrm": "00000000000000ff", "CapEff": "0000000000000021", "NoNewPrivs": "1"}
    monkeypatch.setattr(privileges, "read_own_status", lambda: status)
    assert (own_privileges().capabilities, own_privileges().gains) == (0x21, False)
    status["NoNewPrivs"] = "0"
    assert own_privileges().gains
    status.clear()
    assert own_privileges().capabilities == (ALL if os.geteuid() == 0 else 0)


@pytest.mark.parametrize(("number", "lowest"), [(errno.EACCES, 1024), (errno.EADDRINUSE, 0), (0, 0)])
def test_ports_that_may_be_had(number: int, lowest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The highest of those that want a privilege is tried; that somebody has it already says nothing."""
    tried = []

    class Probe(socket.socket):
        def bind(self, address: object) -> None:
            tried.append(address)
            if number:
                raise OSError(number, os.strerror(number))

    texts = {"/proc/sys/net/ipv4/ip_unprivileged_port_start": "1024"}
    monkeypatch.setattr(privileges, "_read_text", lambda path: texts.get(path, ""))
    monkeypatch.setattr("fastinetd.system.privileges.socket.socket", Probe)
    assert own_privileges().lowest_port == lowest
    assert tried == [("127.0.0.1", 1023)]


def test_read_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/self/uid_map": "         0       1000          1\n      1  100000  100\n",
        "/proc/self/gid_map": "         0          0 4294967295",
        "/proc/self/setgroups": "deny", "/proc/sys/net/ipv4/ip_unprivileged_port_start": "1",
    }  # fmt: skip
    monkeypatch.setattr(privileges, "_read_text", lambda path: texts.get(path, ""))
    found = own_privileges()
    assert (found.uids, found.gids, found.setgroups) == ((range(1), range(1, 101)), EVERY, False)
    assert found.lowest_port == 0
    texts["/proc/self/setgroups"] = "allow"
    del texts["/proc/self/uid_map"]
    assert (own_privileges().setgroups, own_privileges().uids) == (True, EVERY)
