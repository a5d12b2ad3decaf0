"""Which services get a pool, of what size, and which are served by exec although they ask for one."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from fastinetd.config.diagnostics import Report, Severity
from fastinetd.config.model import Config, Family, Place, Service
from fastinetd.config.settings import SETTINGS
from fastinetd.plan import plan
from fastinetd.plan import pool_plan as pools
from fastinetd.plan.model import PlannedService, PoolPlan
from fastinetd.plan.plan import forget_lookups, make_plan
from fastinetd.plan.pool_plan import POOL_REFUSALS
from fastinetd.plan.surroundings import Surroundings
from fastinetd.system.privileges import Privileges

ROOT = Surroundings(environ=(b"PATH=/usr/bin:/bin",), root=True, uid=0, gid=0, nice=0, files=(1024, 4096), ids=(0, 0),
                    groups=frozenset(), guard=11, may=Privileges())
USER = replace(ROOT, root=False, uid=65534, gid=65534)
PROGRAM = os.path.realpath("/bin/sh")
ASKED = Place("x.conf", 9, 5)


def service(**values: Any) -> Service:
    """A zygote of nobody's, unless it is told otherwise; attributes that are told have a place."""
    standard: dict[str, Any] = {"types": frozenset({"UNLISTED"}), "port": 7000, "user": "65534", "spawn": "zygote"}
    standard |= {"server": PROGRAM, "argv": ("sh",)}
    written = ("spawn", *(name for name in values if name in SETTINGS))
    places = MappingProxyType(dict.fromkeys(written, ASKED))
    return Service("web", "web", Place("x.conf", 1), **({**standard, "places": places} | values))


def planned(one: Service, machine: Surroundings = ROOT) -> tuple[PlannedService, Report]:
    report = Report()
    (made,) = make_plan(Config("x.conf", (one,)), machine, report).services
    return made, report


def pool(machine: Surroundings = ROOT, **values: Any) -> PoolPlan | None:
    made, report = planned(service(**values), machine)
    assert [str(each) for each in report] == []
    return made.pool


def refused(machine: Surroundings = ROOT, **values: Any) -> str:
    """The reason and remedy with which a service is left to exec."""
    made, report = planned(service(**values), machine)
    assert made.pool is None
    assert made.refused in POOL_REFUSALS
    (said,) = (each for each in report if each.code != "cannot-exec")
    assert (said.code, said.severity, said.place, said.service) == ("pool-refused", Severity.WARNING, ASKED, "web")
    assert said.text.endswith(", or write `spawn = exec`")
    return said.text


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "WRAPPER_FILES", ())
    forget_lookups()


class TestWhatItIs:
    def test_exec(self) -> None:
        assert pool(spawn="exec") is None

    @pytest.mark.parametrize("kind", ["zygote", "prefork"])
    def test_forked(self, kind: str) -> None:
        assert pool(spawn=kind, snapshot="first_io") == PoolPlan(
            kind, "first_io", 2, 32, 32, None, None, None, None, None, (os.fsencode(PROGRAM),), 11
        )

    def test_worker(self) -> None:
        made = pool(spawn="worker", min_spare=1, max_spare=3, max_workers=9, max_requests=1, max_age=2, max_rss=3,
                    max_runtime=4)
        assert made == PoolPlan("worker", "main", 1, 3, 9, 1, 2, 3, 4, None, (os.fsencode(PROGRAM),))

    def test_what_keeps_others_out(self) -> None:
        """Nothing keeps root out, nor the daemon's own user; workers are as any process of theirs."""
        for machine, values in ((ROOT, {"user": "0", "groups": False}), (USER, {}), (ROOT, {"spawn": "worker"})):
            made, _ = planned(service(**{"allow_shared_layout": True} | values), replace(machine, guard=None))
            assert made.pool is not None and made.pool.guard is None

    def test_where_nothing_can(self) -> None:
        made, report = planned(service(), replace(ROOT, guard=None))
        assert made.pool is not None and made.pool.guard is None
        (said,) = report
        assert (said.code, said.severity, said.place) == ("pool-unguarded", Severity.WARNING, ASKED)
        assert "other processes of user 65534 can change" in said.text and "CAP_NET_BROADCAST" in said.text

    def test_files(self, folder: Path) -> None:
        """The script, its interpreter and what it is given first; not what it may write to."""
        script, data, log = folder / "script", folder / "data", folder / "log"
        log.write_text("")
        script.write_text(f"#!{PROGRAM} -u\n")
        script.chmod(0o755)
        data.write_text("")
        argv = ("script", "-f", str(data), str(log), "/dev/null", "/no/such", "data", str(script))
        for kind in ("prefork", "worker"):
            made = pool(spawn=kind, server=str(script), argv=argv)
            assert made is not None
            assert made.files == tuple(os.fsencode(path) for path in (script, PROGRAM, data))

    def test_without_root(self) -> None:
        assert pool(USER) is not None

    def test_equal_configurations_make_equal_pools(self) -> None:
        first = pool(snapshot="first_io")
        assert first == pool(snapshot="first_io")
        assert first != pool()


class TestSizes:
    @pytest.mark.parametrize(
        ("kind", "written", "sizes"),
        [
            ("prefork", {}, (2, 32, 32)),
            ("prefork", {"min_spare": 50}, (50, 50, 50)),
            ("prefork", {"max_spare": 1}, (1, 1, 32)),
            ("prefork", {"min_spare": 5, "max_spare": 5}, (5, 5, 32)),
            ("prefork", {"min_spare": 0}, (0, 32, 32)),
            ("worker", {"max_workers": 1}, (1, 1, 1)),
            ("worker", {"max_workers": 9}, (2, 9, 9)),
            ("worker", {"max_workers": 90}, (2, 32, 90)),
            ("worker", {"min_spare": 40}, (40, 40, 40)),
            ("worker", {"min_spare": 40, "max_workers": 60}, (40, 40, 60)),
            ("worker", {"min_spare": 3, "max_spare": 9, "max_workers": 4}, (3, 4, 4)),
        ],
    )
    def test_what_nobody_wrote_gives_way(self, kind: str, written: dict[str, int], sizes: tuple[int, ...]) -> None:
        made = pool(spawn=kind, **written)  # type: ignore[arg-type]
        assert made is not None
        assert (made.min_spare, made.max_spare, made.max_workers) == sizes

    @pytest.mark.parametrize(
        ("kind", "written", "sizes", "name"),
        [
            ("prefork", {"min_spare": 9, "max_spare": 3}, (3, 3, 32), "max_spare"),
            ("worker", {"min_spare": 9, "max_spare": 3}, (3, 3, 32), "max_spare"),
            ("worker", {"min_spare": 9, "max_workers": 4}, (4, 4, 4), "max_workers"),
            ("worker", {"min_spare": 9, "max_spare": 5, "max_workers": 4}, (4, 4, 4), "max_workers"),
        ],
    )
    def test_what_is_written_is_told(
        self, kind: str, written: dict[str, int], sizes: tuple[int, ...], name: str
    ) -> None:
        made, report = planned(service(spawn=kind, **written))
        assert made.pool is not None
        assert (made.pool.min_spare, made.pool.max_spare, made.pool.max_workers) == sizes
        (said,) = report
        assert said.code == "spare-order"
        assert f"above {name} = " in said.text


class TestRefused:
    def test_wait(self) -> None:
        assert "it accepts its clients itself; write `wait = no`" in refused(wait=True)

    def test_datagrams(self) -> None:
        said = refused(wait=True, socket_type="dgram", protocol="udp")
        assert "it reads datagrams; write `wait = yes` and `instances = 2`" in said

    def test_what_defaults_say_is_not_meant_for_them(self) -> None:
        inherited = frozenset({"spawn"})
        assert pool(wait=True, inherited=inherited) is None
        assert pool(wait=True, socket_type="dgram", protocol="udp", inherited=inherited) is None
        internal = Service("echo", "echo", Place("x", 1), types=frozenset({"INTERNAL", "UNLISTED"}), port=7,
                           spawn="zygote", inherited=inherited)
        made, report = planned(internal)
        assert (made.pool, made.refused, [*report]) == (None, None, [])

    @pytest.mark.parametrize(
        ("word", "values"),
        [
            ("datagrams", {"wait": True, "socket_type": "dgram", "protocol": "udp"}),
            ("wait", {"wait": True}),
            ("shared_layout", {"user": "0"}),
            ("interpreter", {"server": "/usr/bin/env"}),
        ],
    )
    def test_in_a_word(self, word: str, values: dict[str, Any]) -> None:
        assert planned(service(**values))[0].refused == word
        assert planned(service(spawn_primitive="posix_spawn"), USER)[0].refused == "primitive"

    def test_no_word_without_a_refusal(self) -> None:
        for one in (service(), service(spawn="exec"), service(spawn="worker")):
            assert planned(one)[0].refused is None

    def test_posix_spawn(self) -> None:
        assert "write `spawn_primitive = auto`" in refused(USER, spawn_primitive="posix_spawn")

    @pytest.mark.parametrize("primitive", ["auto", "clone"])
    def test_no_clone(self, primitive: str) -> None:
        machine = replace(USER, clone=False)
        assert "allow clone with CLONE_VFORK" in refused(machine, spawn_primitive=primitive)

    def test_a_program_that_cannot_be_held(self, folder: Path) -> None:
        script = folder / "script"
        script.write_text("#!/usr/bin/env sh\n")
        script.chmod(0o755)
        text = refused(server=str(script))
        assert "/usr/bin/env only starts another program" in text
        assert f"begin {script} with #!/" in text
        assert pool(spawn="worker", server=str(script)) is not None
        script.write_text("echo hello\n")
        assert "neither an ELF program" in refused(server=str(script), spawn="prefork")
        assert planned(service(spawn="worker", server=str(script)))[0].pool is not None

    def test_more_rights(self, folder: Path) -> None:
        program = folder / "program"
        program.write_bytes(Path(PROGRAM).read_bytes())
        program.chmod(0o4755)
        for kind in ("zygote", "prefork", "worker"):
            assert f"{program} is set-uid" in refused(server=str(program), spawn=kind)

    def test_no_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pools, "library_descriptor", lambda: -1)
        assert "this machine has no library" in refused()
        assert pool(spawn="worker") is not None

    def test_a_library_that_users_may_not_read(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = folder / "closed"
        closed.touch(0o600)
        with closed.open() as file:
            monkeypatch.setattr(pools, "library_descriptor", file.fileno)
            assert "chmod a+r" in refused()
            assert pool(spawn="worker") is not None


class TestSharedLayout:
    """As root, with clients from outside, forks of one zygote need a word that they are wanted."""

    OUTSIDE = "run as root"

    @pytest.mark.parametrize("values", [{"user": "0"}, {"user": None}, {"user": "0", "group": "7"}])
    def test_root(self, values: dict[str, Any]) -> None:
        for kind in ("zygote", "prefork"):
            assert self.OUTSIDE in refused(spawn=kind, **values)
            assert pool(spawn=kind, allow_shared_layout=True, **values) is not None
        assert pool(spawn="worker", **values) is not None

    def test_others(self) -> None:
        assert pool() is not None
        assert pool(USER, user=None) is not None

    @pytest.mark.parametrize(
        ("family", "bind", "outside"),
        [
            (Family.AUTO, ("127.0.0.1",), False),
            (Family.AUTO, ("127.1.2.3", "::1"), False),
            (Family.SPLIT, ("localhost",), False),
            (Family.DUAL, ("::ffff:127.0.0.1",), False),
            (Family.AUTO, ("lo",), False),
            (Family.AUTO, (), True),
            (Family.IPV4, (), True),
            (Family.AUTO, ("0.0.0.0",), True),
            (Family.AUTO, ("::",), True),
            (Family.AUTO, ("127.0.0.1", "192.0.2.1"), True),
            (Family.AUTO, ("some.host",), True),
            (Family.AUTO, ("eth0",), True),
        ],
    )
    def test_endpoints(self, family: Family, bind: tuple[str, ...], outside: bool) -> None:
        values: dict[str, Any] = {"user": "0", "family": family, "bind": bind}
        if outside:
            assert self.OUTSIDE in refused(**values)
        else:
            assert pool(**values) is not None

    def test_a_unix_socket(self) -> None:
        one = service(user="0", family=Family.UNIX, protocol="unix", bind=("/run/x",))
        assert planned(one)[0].pool is not None

    @pytest.mark.parametrize(
        ("only_from", "no_access", "family", "outside"),
        [
            (("127.0.0.1",), None, Family.AUTO, False),
            (("127.0.0.0/8", "::1"), None, Family.AUTO, False),
            ((), None, Family.AUTO, False),
            (("::1",), None, Family.IPV6, False),
            (("127.0.0.0/8", "10.0.0.0/8"), ("10.0.0.0/8",), Family.AUTO, False),
            (None, ("0.0.0.0/1", "128.0.0.0/1", "::/0"), Family.AUTO, False),
            (("127.0.0.0/7",), None, Family.AUTO, True),
            (("127.0.0.1", "192.0.2.1"), None, Family.AUTO, True),
            (("127.0.0.1", "2001:db8::1"), None, Family.AUTO, True),
            (("127.0.0.1", "2001:db8::1"), None, Family.IPV4, False),
            (("::1", "192.0.2.1"), None, Family.IPV6, False),
            (("127.0.0.1", "::/127"), None, Family.AUTO, True),
            (("127.0.0.1", "trusted.example.net"), None, Family.AUTO, True),
            (("127.0.0.1", ".example.net"), None, Family.AUTO, True),
            (None, ("192.0.2.1",), Family.AUTO, True),
        ],
    )
    def test_access(
        self, only_from: tuple[str, ...] | None, no_access: tuple[str, ...] | None, family: Family, outside: bool
    ) -> None:
        values: dict[str, Any] = {"user": "0", "only_from": only_from, "no_access": no_access, "family": family}
        if outside:
            assert self.OUTSIDE in refused(**values)
        else:
            assert pool(**values) is not None

    def test_access_by_the_family_of_the_address(self) -> None:
        """What only clients of the other family are let in by is nothing to a socket that has none."""
        six = ("127.0.0.1", "2001:db8::1")
        assert pool(user="0", bind=("192.0.2.1",), only_from=six) is not None
        assert self.OUTSIDE in refused(user="0", bind=("2001:db8::7",), only_from=six)


def test_a_handlers_files(folder: Path) -> None:
    (folder / "pages").mkdir()
    module = folder / "pages" / "web.py"
    module.write_text("raise SystemExit\n")
    values: dict[str, Any] = {"spawn": "worker", "server": None, "argv": (), "user": None}
    made = pool(handler="pages.web:serve", env=(("PYTHONPATH", str(folder)),), **values)
    assert made is not None
    assert made.handler == "pages.web:serve"
    assert made.files[1:] == (os.fsencode(module),)
    left, report = planned(service(handler="pages.other:serve", **values))
    assert left.pool is not None
    (said,) = report
    assert (said.code, said.severity) == ("no-handler", Severity.WARNING)
    assert f"`env = PYTHONPATH=/FOLDER`, or install it for {sys.executable}" in said.text
