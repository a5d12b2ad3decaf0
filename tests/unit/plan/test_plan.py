"""From a Config to a Plan: endpoints, ids, environments, limits, and what stays the same across reloads."""

from __future__ import annotations

import os
import pwd
import resource
import socket
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import UNLIMITED, Config, Family, GroupsOfRoot, Place, Rate, Service
from fastinetd.core.layout import Field
from fastinetd.plan import access as access_lists
from fastinetd.plan import endpoints, plan, users
from fastinetd.plan.environment import MANAGERS
from fastinetd.plan.model import Endpoint, Mode, Plan, PlannedService, Unplannable
from fastinetd.plan.plan import forget_lookups, make_plan
from fastinetd.plan.surroundings import Surroundings
from fastinetd.plan.users import forget_users, gid_of
from fastinetd.system.privileges import CAP_SETGID, CAP_SYS_NICE, CAP_SYS_RESOURCE, Privileges

ROOT = Surroundings(environ=(b"PATH=/bin", b"LANG=C"), root=True, uid=0, gid=0, nice=0, files=(1024, 4096),
                    may=Privileges(), ids=(0, 0), groups=frozenset({54321}))
USER = replace(ROOT, root=False, uid=65534, gid=65534, may=Privileges(0))
STREAM, DGRAM, UNSPEC = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.AF_UNSPEC
V4, V6 = socket.AF_INET, socket.AF_INET6


def service(**values: Any) -> Service:
    standard: dict[str, Any] = {"types": frozenset({"UNLISTED"}), "port": 7000}
    standard |= {"server": "/bin/true", "argv": ("true",)}
    return Service("web", "web", Place("x.conf", 1), **(standard | values))


def planned_all(*services: Service, machine: Surroundings = ROOT) -> tuple[Plan, Report]:
    report = Report()
    return make_plan(Config("x.conf", services), machine, report), report


def planned(machine: Surroundings = ROOT, **values: Any) -> PlannedService:
    made, report = planned_all(service(**values), machine=machine)
    assert [str(each) for each in report] == []
    (only,) = made.services
    return only


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WRAPPER_FILES", ())
    forget_lookups()


class TestEndpoints:
    @pytest.mark.parametrize(
        ("family", "bind", "wanted"),
        [
            (Family.AUTO, (), [Endpoint(V6, STREAM, "", 7000, fallback=True, apart=True)]),
            (Family.AUTO, ("127.0.0.1",), [Endpoint(V4, STREAM, "127.0.0.1", 7000)]),
            (Family.AUTO, ("host",), [Endpoint(UNSPEC, STREAM, "host", 7000, apart=True)]),
            (Family.BOTH, (), [Endpoint(V6, STREAM, "", 7000, fallback=True, apart=True)]),
            (Family.IPV4, (), [Endpoint(V4, STREAM, "", 7000)]),
            (Family.IPV6, ("::1",), [Endpoint(V6, STREAM, "::1", 7000)]),
            (Family.DUAL, (), [Endpoint(V6, STREAM, "", 7000, fallback=True)]),
            (Family.DUAL, ("host",), [Endpoint(V6, STREAM, "host", 7000)]),
            (Family.SPLIT, ("127.0.0.1", "::1"), [Endpoint(V4, STREAM, "127.0.0.1", 7000),
                                                  Endpoint(V6, STREAM, "::1", 7000)]),
            (Family.IPV4, ("a", "b", "a"), [Endpoint(V4, STREAM, "a", 7000), Endpoint(V4, STREAM, "b", 7000)]),
        ],
    )  # fmt: skip
    def test_internet(self, family: Family, bind: tuple[str, ...], wanted: list[Endpoint]) -> None:
        assert planned(family=family, bind=bind).endpoints == tuple(wanted)

    @pytest.mark.parametrize("ipv6", [True, False])
    def test_two_sockets(self, monkeypatch: pytest.MonkeyPatch, ipv6: bool) -> None:
        monkeypatch.setattr(endpoints, "has_ipv6", lambda: ipv6)
        wanted = [Endpoint(V4, STREAM, "", 7000), Endpoint(V6, STREAM, "", 7000, v6only=True)]
        assert planned(family=Family.SPLIT).endpoints == tuple(wanted[: 1 + ipv6])

    @pytest.mark.parametrize("kind", [STREAM, DGRAM])
    def test_one_socket_is_handed_over(self, kind: int) -> None:
        word = "stream" if kind == STREAM else "dgram"
        made = planned(family=Family.AUTO, socket_type=word, protocol="tcp" if kind == STREAM else "udp", wait=True)
        assert made.endpoints == (Endpoint(V6, kind, "", 7000, fallback=True),)

    def test_one_place_can_be_had_once(self) -> None:
        made, report = planned_all(service(), replace(service(wait=True), id="other", name="other"))
        assert [each.id for each in made.services] == ["web"]
        assert [each.code for each in report] == ["same-socket"]

    def test_unix(self) -> None:
        made = planned(family=Family.UNIX, protocol="unix", bind=("/run/x",), port=None, socket_type="dgram", wait=True)
        assert made.endpoints == (Endpoint(socket.AF_UNIX, DGRAM, "/run/x"),)

    def test_port_of_etc_services(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def listed(name: str, protocol: str) -> int | None:
            return 70 if (name, protocol) == ("web", "tcp") else None

        monkeypatch.setattr(endpoints, "listed_port", listed)
        assert planned(types=frozenset(), port=None).endpoints[0].port == 70
        assert planned(types=frozenset(), port=70).endpoints[0].port == 70

    def test_one_socket_has_one_spelling(self) -> None:
        """Else a listener that both configurations have would be closed, and its queue lost."""
        assert planned(bind=("127.1.1.1",)).endpoints == planned(bind=("127.1.1.1",), family=Family.IPV4).endpoints
        assert planned(bind=("0.0.0.0",)).endpoints == planned(family=Family.IPV4).endpoints
        assert planned(bind=("::1",)).endpoints == planned(bind=("0:0::1",), family=Family.IPV6).endpoints
        assert planned(bind=("::1",)).endpoints == planned(bind=("::1",), family=Family.SPLIT).endpoints
        assert planned(bind=("::",), family=Family.IPV6).endpoints == planned(family=Family.IPV6).endpoints
        assert planned(bind=("fe80::0:1%lo",)).endpoints[0].host == "fe80::1%lo"
        assert planned(bind=("127.0.0.1",)).endpoints != planned(bind=("127.0.0.2",)).endpoints
        assert planned(bind=("::",), family=Family.IPV6).endpoints != planned(bind=("::",)).endpoints


def test_modes() -> None:
    assert planned().mode is Mode.NOWAIT
    assert planned(wait=True).mode is Mode.WAIT
    internal = Service("echo", "echo", Place("x", 1), types=frozenset({"INTERNAL", "UNLISTED"}), port=7)
    assert planned_all(internal)[0].services[0].mode is Mode.BUILTIN


@pytest.mark.parametrize(
    ("number", "inherited", "share"), [(None, False, 1), (0, False, 1), (1, False, 1), (7, False, 7), (7, True, 1)]
)
def test_servers_that_share_a_socket(number: int | None, inherited: bool, share: int) -> None:
    """A number in `defaults` is meant for all services, and means nothing to a wait service of xinetd."""
    own = frozenset({"instances"}) if inherited else frozenset()
    assert planned(wait=True, instances=number, inherited=own).share == share


class TestEnvironment:
    def test_everything_is_passed(self) -> None:
        assert planned(env=(("A", "1"), ("LANG", "de"))).exec_context.environ == (b"PATH=/bin", b"LANG=de", b"A=1")

    def test_what_is_asked_for_is_passed(self) -> None:
        made = planned(passenv=("LANG", "MISSING", "LANG"), env=(("A", "="),))
        assert made.exec_context.environ == (b"LANG=C", b"A==")

    def test_what_is_no_variable_or_is_there_twice(self) -> None:
        """A variable that is set takes the place of the first of its name; what is asked for is the first."""
        machine = replace(ROOT, environ=(b"A=1", b"A", b"", b"=x", b"A=2", b"=="))
        assert planned(machine).exec_context.environ == machine.environ
        environ = planned(machine, env=(("A", "3"), ("B", "4"))).exec_context.environ
        assert environ == (b"A=3", *machine.environ[1:], b"B=4")
        assert planned(machine, passenv=("A",)).exec_context.environ == (b"A=1",)

    def test_nothing(self) -> None:
        assert planned(passenv=()).exec_context.environ == ()

    def test_the_connections_and_the_managers_own_are_not(self) -> None:
        names = ("REMOTE_HOST", "TCPREMOTEIP", "UDPLOCALIP", "PROTO", *MANAGERS)
        machine = replace(ROOT, environ=(*(f"{name}=x".encode() for name in names), b"A=b"))
        assert planned(machine, env=(("REMOTE_ADDR", "forged"),)).exec_context.environ == (b"A=b",)

    def test_bytes_that_are_no_text(self) -> None:
        machine = replace(ROOT, environ=(b"A=\xff", b"\xfe=\xfd"))
        assert planned(machine, argv=("\udcfe",)).exec_context.environ == (b"A=\xff", b"\xfe=\xfd")
        environ = planned(machine, passenv=("\udcfe",), env=(("A", "ü"),)).exec_context.environ
        assert environ == (b"\xfe=\xfd", b"A=\xc3\xbc")
        assert planned(machine, argv=("\udcfe",)).exec_context.argv == (b"\xfe",)


class TestIds:
    def test_of_a_number_without_an_entry(self) -> None:
        start = planned(user="54321").exec_context
        assert (start.ids, start.groups) == ((54321, 54321), ())

    def test_group(self) -> None:
        assert planned(user="54321", group="77").exec_context.ids == (54321, 77)

    def test_the_highest_number_changes_nothing(self) -> None:
        """setresuid(2) leaves an id of -1 as it is: that server would be root."""
        highest = 2**32 - 1
        assert planned(user=str(highest - 1), group=str(highest - 1)).exec_context.ids == (highest - 1, highest - 1)
        for what, values in (("user", {"user": str(highest)}), ("group", {"user": "54321", "group": str(highest)})):
            made, report = planned_all(service(**values))
            assert made.services == ()
            assert [each.code for each in report] == [f"no-{what}"]

    @pytest.mark.parametrize(("inherited", "user", "dropped"), [(1, "54321", True), (1, "root", False),
                                                               (0, "54321", False)])  # fmt: skip
    def test_capabilities_that_programs_inherit(self, inherited: int, user: str, dropped: bool) -> None:
        """They are root's programs' alone."""
        machine = replace(ROOT, may=Privileges(inherited=inherited))
        assert planned(machine, user=user, group="77").exec_context.drop_capabilities is dropped

    def test_whoever_is_another_user_by_the_next_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = pwd.getpwnam("root")
        groups = [0]
        monkeypatch.setattr(pwd, "getpwnam", lambda name: entry)
        monkeypatch.setattr(os, "getgrouplist", lambda name, gid: groups)
        forget_users()
        assert planned(user="web", groups=True).exec_context.groups == (0,)
        entry, groups = pwd.struct_passwd((*entry[:2], 7, 8, *entry[4:])), [8, 9]
        forget_users()
        start = planned(user="web", groups=True).exec_context
        assert (start.ids, start.groups) == ((7, 8), (8, 9))
        groups = [8]
        forget_users()
        assert planned(user="web", groups=True).exec_context.groups == (8,)
        monkeypatch.undo()
        forget_users()

    @pytest.mark.parametrize(("uids", "gids", "settled"), [
        ((5, 5, 5), (6, 6, 6), (5, 6)), ((0, 5, 5), (6, 6, 6), None), ((5, 5, 5), (6, 6, 0), None),
    ])  # fmt: skip
    def test_which_the_daemon_has(self, monkeypatch: pytest.MonkeyPatch, uids: tuple[int, ...], gids: tuple[int, ...],
                                  settled: tuple[int, int] | None) -> None:
        monkeypatch.setattr(os, "getresuid", lambda: uids)
        monkeypatch.setattr(os, "getresgid", lambda: gids)
        assert Surroundings().ids == settled

    def test_root_by_name(self) -> None:
        start = planned(replace(ROOT, ids=(0, 54321)), user="root", groups=True).exec_context
        assert start.ids == (0, 0)
        assert start.groups is not None
        assert 0 in start.groups

    @pytest.mark.parametrize("more", [{}, {"group": "77"}], ids=["same", "group"])
    @pytest.mark.parametrize("own", [(0, 0), None], ids=["settled", "unsettled"])
    @pytest.mark.parametrize("groups", [frozenset(), frozenset({4})], ids=["none", "adm"])
    def test_the_daemons_own_are_left(self, more: dict[str, str], own: tuple[int, int] | None,
                                      groups: frozenset[int]) -> None:
        """Ids that would not change, and groups where nothing would: `groups = no` takes the daemon's own away."""
        start = planned(replace(ROOT, ids=own, groups=groups), user="root", **more).exec_context
        same = not more and own is not None
        assert start.ids == (None if same else (0, int(more.get("group", 0))))
        assert start.groups == (None if same and not groups else ())

    def test_the_users_groups_are_the_daemons_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(users, "_groups_of", lambda name, gid: (gid, 4))
        assert planned(replace(ROOT, groups=frozenset({0, 4})), user="root", groups=True).exec_context.ids is None
        assert planned(replace(ROOT, groups=frozenset({0})), user="root", groups=True).exec_context.groups == (0, 4)

    @pytest.mark.parametrize(("rule", "group", "ids", "groups"), [
        (None, None, (0, 0), (0, 9)), (None, "77", (0, 77), (0, 9)),
        (GroupsOfRoot.OWN, None, (0, 0), (0, 9)), (GroupsOfRoot.OWN, "77", (0, 77), (77, 9)),
        (GroupsOfRoot.DAEMON, None, (0, 50), (50,)), (GroupsOfRoot.DAEMON, "77", (0, 77), (77, 9)),
        (GroupsOfRoot.KEPT, None, (0, 50), None), (GroupsOfRoot.KEPT, "77", (0, 77), None),
    ])  # fmt: skip
    def test_those_of_root(self, monkeypatch: pytest.MonkeyPatch, rule: GroupsOfRoot | None, group: str | None,
                           ids: tuple[int, int], groups: tuple[int, ...] | None) -> None:
        """Of xinetd, and of each inetd; the daemon is root in group 50."""
        monkeypatch.setattr(users, "_groups_of", lambda name, gid: (gid, 9))
        daemon = replace(ROOT, gid=50, ids=None, groups=frozenset({50, 60}))
        start = planned(daemon, user="root", group=group, groups=True, groups_of_root=rule).exec_context
        assert (start.ids, start.groups) == (ids, groups)

    @pytest.mark.parametrize(("own", "ids"), [((0, 0), None), (None, (0, 0))])
    def test_groups_that_cannot_be_left(self, own: tuple[int, int] | None, ids: tuple[int, int] | None) -> None:
        """It is said, and the ids are set all the same where the daemon has others."""
        daemon = replace(ROOT, ids=own, groups=frozenset({4}), may=Privileges(~(1 << CAP_SETGID)))
        made, report = planned_all(service(user="root"), machine=daemon)
        start = made.services[0].exec_context
        assert (start.ids, start.groups) == (ids, None)
        assert "groups-stay" in [each.code for each in report]

    def test_none(self) -> None:
        start = planned(user=None).exec_context
        assert (start.ids, start.groups) == (None, None)

    def test_without_root_nothing_is_changed(self) -> None:
        start = planned(USER, user="65534").exec_context
        assert (start.ids, start.groups) == (None, None)


class TestLimits:
    def test_the_original_number_of_files_is_always_set(self) -> None:
        assert planned().exec_context.limits == ((resource.RLIMIT_NOFILE, 1024, 4096),)

    def test_each(self) -> None:
        words = {"as": "AS", "cpu": "CPU", "data": "DATA", "rss": "RSS", "stack": "STACK", "files": "NOFILE"}
        numbers = {word: number for number, word in enumerate(words, 70)}
        made = planned(rlimits=MappingProxyType(numbers))
        assert {*made.exec_context.limits} == {
            (getattr(resource, f"RLIMIT_{name}"), numbers[word], numbers[word]) for word, name in words.items()
        }
        made = planned(rlimits=MappingProxyType({"stack": UNLIMITED}))
        assert (resource.RLIMIT_STACK, resource.RLIM_INFINITY, resource.RLIM_INFINITY) in made.exec_context.limits

    def test_without_the_right_not_above_the_daemons_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda which: (5, 10))
        machine = replace(ROOT, may=Privileges(~(1 << CAP_SYS_RESOURCE)))
        made, report = planned_all(service(rlimits=MappingProxyType({"cpu": 20})), machine=machine)
        assert (resource.RLIMIT_CPU, 10, 10) in made.services[0].exec_context.limits
        assert [each.code for each in report] == ["limit-cut"]

    def test_files_without_limit_are_what_the_kernel_allows(self) -> None:
        most = int(Path("/proc/sys/fs/nr_open").read_text())
        made = planned(rlimits=MappingProxyType({"files": UNLIMITED}))
        assert made.exec_context.limits == ((resource.RLIMIT_NOFILE, most, most),)

    def test_not_above_what_the_kernel_allows(self) -> None:
        most = int(Path("/proc/sys/fs/nr_open").read_text())
        plan, report = planned_all(service(rlimits=MappingProxyType({"files": most + 1})))
        assert plan.services[0].exec_context.limits == ((resource.RLIMIT_NOFILE, most, most),)
        assert [each.code for each in report] == ["limit-cut"]

    @pytest.mark.parametrize("machine", [USER, replace(ROOT, may=Privileges(~(1 << CAP_SYS_RESOURCE)))])
    @pytest.mark.parametrize("files", [100_000, UNLIMITED])
    def test_without_the_right_not_above_what_there_is(self, machine: Surroundings, files: int) -> None:
        plan, report = planned_all(service(rlimits=MappingProxyType({"files": files})), machine=machine)
        assert plan.services[0].exec_context.limits == ((resource.RLIMIT_NOFILE, 4096, 4096),)
        assert [each.code for each in report] == ["limit-cut"] * (files != UNLIMITED)

    @pytest.mark.parametrize(("own", "wanted", "nice"), [(0, 5, 5), (10, 15, 19), (0, -30, -20), (-5, 0, -5)])
    def test_nice_is_relative_and_bounded(self, own: int, wanted: int, nice: int) -> None:
        assert planned(replace(ROOT, nice=own), nice=wanted).exec_context.nice == nice


    def test_a_higher_priority_than_the_daemons_wants_the_right(self) -> None:
        machine = replace(ROOT, nice=5, may=Privileges(~(1 << CAP_SYS_NICE)))
        assert planned(machine, nice=3).exec_context.nice == 8
        made, report = planned_all(service(nice=-3), machine=machine)
        assert made.services == ()
        assert [each.code for each in report] == ["not-own-nice"]


class TestPrimitive:
    def test_clone_where_it_works(self) -> None:
        assert not planned().exec_context.posix_spawn
        assert not planned(spawn_primitive="clone").exec_context.posix_spawn

    def test_posix_spawn_where_it_does_not(self) -> None:
        machine = replace(ROOT, clone=False)
        assert planned(machine).exec_context.posix_spawn
        assert not planned(machine, spawn_primitive="clone").exec_context.posix_spawn

    @pytest.mark.parametrize("wanted", ["posix_spawn", "auto"])
    def test_posix_spawn_of_the_daemons_own_user(self, wanted: str) -> None:
        machine = replace(ROOT, clone=wanted == "posix_spawn", groups=frozenset())
        start = planned(machine, user="root", spawn_primitive=wanted).exec_context
        assert start.posix_spawn
        assert (start.ids, start.groups) == (None, None)

    def test_posix_spawn_as_wanted(self) -> None:
        start = planned(spawn_primitive="posix_spawn").exec_context
        assert start.posix_spawn
        assert start.limits == ((resource.RLIMIT_NOFILE, 1024, 4096),)


@pytest.mark.parametrize(("path", "codes"), [("/bin", []), ("/no/such", ["cannot-exec"])])
def test_interpreters_are_looked_for_as_the_server_will(tmp_path: Path, path: str, codes: list[str]) -> None:
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/env sh\n")
    script.chmod(0o755)
    assert [each.code for each in planned_all(service(server=str(script), env=(("PATH", path),)))[1]] == codes


def test_numbers() -> None:
    made = planned(rate=Rate(10, 2.0), log_on_success=frozenset({"PID", "EXIT"}), log_on_failure=frozenset({"HOST"}))
    assert made.rate == (10, 2_000_000_000)
    assert made.log_success == Field.SHOW_PID | Field.SHOW_EXIT
    assert made.log_failure == Field.SHOW_HOST


def test_socket_options() -> None:
    made = planned(flags=frozenset({"NODELAY", "KEEPALIVE"}), receive_buffer=9, send_buffer=8, socket_mode=0o600,
                   socket_user="7", socket_group="8")
    options = made.options
    assert options.nodelay
    assert options.keepalive
    assert (options.receive_buffer, options.send_buffer, options.mode) == (9, 8, 0o600)
    assert (options.owner, options.group) == (7, 8)


def test_networks_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_lists, "_read_networks", lambda: {"lab": "10.1.0.0"})
    table = planned(only_from=("LAB",)).access
    assert [verdict.name for _, _, verdict in table.v4] == ["DENY", "ALLOW", "DENY"]


def test_equal_configurations_make_equal_plans() -> None:
    """So a reload without changes is seen to change nothing."""
    values: dict[str, Any] = {"only_from": ("10.0.0.0", ".example.net"), "rate": Rate(3), "env": (("A", "b"),)}
    assert planned(**values) == planned(**values)
    assert planned(**values) != planned(**(values | {"instances": 1}))


def test_other_services_are_planned_all_the_same() -> None:
    made, report = planned_all(service(server="/no/such"), replace(service(port=7001), id="other"))
    assert [each.id for each in made.services] == ["other"]
    assert report.errors == 1


def test_numbers_longer_than_any_id() -> None:
    """They are nobody's, and other services are planned all the same."""
    made, report = planned_all(service(user="9" * 5000), replace(service(port=7001), id="other"))
    assert [each.id for each in made.services] == ["other"]
    assert report.errors == 1
    with pytest.raises(Unplannable):
        gid_of("9" * 5000, Place("x", 1), report)
