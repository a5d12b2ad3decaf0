"""What a server finds is the same whichever process it is: started for its client, or forked from a held program."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from support.clients import ask, free_port, has_ipv6
from support.contract import ENV, HEAD, SERVICES, surroundings
from support.daemon import Daemon
from support.proc import wait_for
from support.reports import fields, number
from support.texts import entry
from support.views import PROBE, View, view

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SOURCE = Path(__file__).parents[1] / "support" / "probe.c"
ACCEPTORS, SPARE = 2, 3
CLIENT = "127.0.0.5"

METHODS: dict[str, dict[str, object]] = {
    "zygote": {"spawn": "zygote"},
    "prefork": {"spawn": "prefork", "min_spare": SPARE * ACCEPTORS},
    "zygote-first_io": {"spawn": "zygote", "snapshot": "first_io"},
    "prefork-first_io": {"spawn": "prefork", "min_spare": SPARE * ACCEPTORS, "snapshot": "first_io"},
}
"""Each is compared with exec."""

MORE: dict[str, dict[str, object]] = {
    "few-files": {"user": "nobody", "rlimit_files": "16"},
    "preload": {"env": "BEFORE=1 LD_PRELOAD=libm.so.6 AFTER=1"},
    "preload-empty": {"env": "LD_PRELOAD="},
    "bind-now": {"env": "LD_BIND_NOW=1"},
    "bind-now-empty": {"env": "LD_BIND_NOW=", "user": "nobody"},
    "linker": {"env": "LD_BIND_NOW=1 LD_PRELOAD=libm.so.6:libdl.so.2 LD_LIBRARY_PATH=/usr/lib", "user": "nobody"},
    "named": {"more_args": "one two", "flags": "NAMEINARGS"},
    "unix": {"protocol": "unix", "user": "nobody"},
    "script": {"user": "nobody", "rlimit_files": "100", "umask": "027"},
}
"""Beside those that are compared with xinetd."""

SCRIPTS = ("script", "plain-script")
"""These run the shell's probe instead; it asks for $$, so it is held before main only (docs/pools.md)."""

DELIBERATE = {"environ", "environment in memory", "objects", "the environment fills its place"}
"""What is not the same, see alike(): LD_PRELOAD, which the library was added to, is the service's last variable; the
library that holds the program is there; and what the variables could have needed stays as zeros at the end of
/proc/PID/environ."""

ODD = """import ctypes, os, signal, sys
for number in (*range(1, 32), *range(34, 65)):
    if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR2, signal.SIGWINCH, 40}})
ctypes.CDLL(None).prctl(29, 123456, 0, 0, 0)  # the timer slack
open("/proc/self/oom_score_adj", "w").write("100")
open("/proc/self/coredump_filter", "w").write("0x11")
os.umask(0o077)
os.nice(2)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Something that starts the daemon in an unusual state; what of it comes through is the same as with exec."""


class Started:
    """A daemon with services that are each there once for exec and once for each method."""

    def __init__(self, services: Mapping[str, Mapping[str, object]], odd: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fastinetd."))
        self.folder.chmod(0o755)
        self.services = services
        self.places: dict[tuple[str, str], int | str] = {}
        self.asked = 0
        probe = self.folder / "probe"
        subprocess.run(["gcc", "-O1", "-o", probe, SOURCE], check=True)
        text = HEAD.replace("{log}", str(self.folder / "log"))
        for name, attributes in services.items():
            text += self.entry(probe, name, "exec", attributes)
            for method in self.methods(name):
                text += self.entry(probe, name, method, attributes)
        starter = [sys.executable, "-c", ODD.format()] if odd else []
        self.daemon = Daemon(
            self.folder, text, ["--acceptors", str(ACCEPTORS)], metrics=True, exact_env=ENV,
            prefix=[*starter, *surroundings(self.folder)],
        )  # fmt: skip
        self.daemon.await_ready()
        self.acceptors = {pid for name, pid in self.daemon.roles().items() if name.startswith("acceptor")}
        assert len(self.acceptors) == ACCEPTORS

    def methods(self, name: str) -> list[str]:
        return [method for method in METHODS if name not in SCRIPTS or "first_io" not in method]

    def entry(self, probe: Path, name: str, method: str, attributes: Mapping[str, object]) -> str:
        given = dict(attributes)
        args = str(given.pop("more_args", ""))
        place: int | str = f"{self.folder}/{name}.{method}" if name == "unix" else free_port()
        self.places[name, method] = place
        server: str | Path = probe
        if name in SCRIPTS:
            server, args = "/bin/sh", f"{PROBE} answer"
        if method != "exec":
            given |= METHODS[method] | {"allow_shared_layout": "yes"}
        text = entry(f"{name}.{method}", place, server, args, **given)
        return "".join(line for line in text.splitlines(keepends=True) if line.strip() != "bind = None")

    def pools_are_ready(self) -> Started:
        """Wait until every acceptor can serve its clients from all its pools."""
        count = dict.fromkeys(("zygote", "prefork"), 0)
        for _, method in self.places:
            if method != "exec":
                count[method.partition("-")[0]] += ACCEPTORS
        self.daemon.await_metric("fastinetd_pool_processes", sum(count.values()), state="zygote", timeout=60)
        self.daemon.await_metric("fastinetd_pool_processes", SPARE * count["prefork"], state="idle", timeout=60)
        return self

    def ask(self, name: str, method: str, host: str = "127.0.0.1", source: str | None = CLIENT) -> bytes:
        self.asked += method != "exec"
        place = self.places[name, method]
        return ask(place, host=host, source=source if host == "127.0.0.1" and isinstance(place, int) else None)

    def finish(self) -> list[str]:
        """Wait until it is known that every server came as it should, by exec or from a pool; what else is wrong."""

        def from_pools() -> float:
            counts = ("zygote", "prefork")  # on a busy machine it may be the one where it should be the other
            return sum(self.daemon.metric("fastinetd_spawn_latency_seconds_count", method=each) for each in counts)

        try:
            wait_for(lambda: from_pools() == self.asked, lambda: f"{self.asked} from pools, not {from_pools()}")
        finally:
            problems = self.daemon.finish()
            shutil.rmtree(self.folder, ignore_errors=True)
        return problems


@pytest.fixture(scope="module")
def started(need: Callable[[str], str]) -> Iterator[Started]:
    need("gcc")
    made = Started(SERVICES | MORE, odd=False)
    yield made.pools_are_ready()
    assert made.finish() == []


@pytest.fixture(scope="module")
def oddly(need: Callable[[str], str]) -> Iterator[Started]:
    need("gcc")
    chosen = ("plain", "nobody", "umask", "nice", "rlimits")
    made = Started({name: SERVICES[name] for name in chosen} | {"plain-script": {}}, odd=True)
    yield made.pools_are_ready()
    assert made.finish() == []


def alike(started: Started, name: str, method: str, host: str = "127.0.0.1") -> dict[str, tuple[object, object]]:
    """Ask both; what differs other than on purpose: (with exec, with the method)."""
    reports = [started.ask(name, each, host) for each in ("exec", method)]
    for report in reports:
        assert number(report, "parent") in started.acceptors
    before, after = map(fields, reports)
    for where in ("environ", "environment in memory"):
        assert preload_last(before[where]) == after[where]
    library = "/proc/self/fd/60"
    assert [line for line in after["objects"] if line != library] == before["objects"]  # type: ignore[attr-defined]
    assert library in after["objects"]  # type: ignore[operator]
    keys = (before.keys() | after.keys()) - DELIBERATE
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def preload_last(variables: object) -> list[str]:
    """The same with LD_PRELOAD after the service's other variables and before the connection's."""
    assert isinstance(variables, list)
    found = [each for each in variables if not each.startswith("LD_PRELOAD=")]
    at = next(i for i, each in enumerate(found) if re.match("REMOTE_HOST=|IPC", each))
    return [*found[:at], *(each for each in variables if each.startswith("LD_PRELOAD=")), *found[at:]]


def seen(report: View) -> dict[str, object]:
    variables = {name: value for name, value in report.variables().items() if not name.endswith("PORT")}
    return report.comparable() | {"env": variables}


TESTED = [(name, method) for name in [*SERVICES, *MORE] if name not in SCRIPTS for method in METHODS]


@pytest.mark.parametrize(("name", "method"), TESTED)
def test_alike(started: Started, name: str, method: str) -> None:
    for _ in range(2):  # the second comes after somebody else's
        assert alike(started, name, method) == {}


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("method", METHODS)
def test_alike_over_ipv6(started: Started, method: str) -> None:
    assert alike(started, "dual", method, host="::1") == {}


@pytest.mark.parametrize("method", ["zygote", "prefork"])
def test_a_shell_finds_the_same(started: Started, method: str) -> None:
    before, after = (view(started.ask("script", each)) for each in ("exec", method))
    assert seen(before) == seen(after)
    assert after.session_is_own and after.group_is_own


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["plain", "nobody", "umask", "nice", "rlimits"])
def test_alike_where_the_daemon_was_started_oddly(oddly: Started, name: str, method: str) -> None:
    assert alike(oddly, name, method) == {}


@pytest.mark.parametrize("method", ["zygote", "prefork"])
def test_a_shell_finds_the_same_there(oddly: Started, method: str) -> None:
    before, after = (view(oddly.ask("plain-script", each)) for each in ("exec", method))
    assert seen(before) == seen(after)
    ignored = int(after.status["SigIgn"], 16)
    assert not ignored & 1 << signal.SIGTERM - 1


def test_the_comparison_sees_what_it_should(started: Started) -> None:
    """Services that differ do so in the report."""
    plain, other = (fields(started.ask(name, "zygote")) for name in ("plain", "rlimits"))
    assert {key for key in plain if plain[key] != other[key]} >= {
        "limits", "status Uid", "status Gid", "status CapEff",
    }  # fmt: skip
    for name, key in {"umask": "status Umask", "nice-root": "stat nice", "quotes": "cmdline", "env": "environ"}.items():
        assert fields(started.ask(name, "zygote"))[key] != plain[key]


def test_each_has_its_own_client(started: Started) -> None:
    """The variables are those of the connection, in the environment of the C library as in the kernel's copy."""
    for source in ("127.0.0.9", "127.0.0.123", "127.1.1.1", "127.0.0.2"):
        told = fields(started.ask("nobody", "prefork", source=source))
        for where in ("environ", "environment in memory"):
            assert f"REMOTE_HOST={source}" in told[where], told[where]  # type: ignore[operator]
            assert str(told[where]).count(source) == 3


def test_the_records_are_the_same(started: Started) -> None:
    log = started.folder / "log"
    labels = [f"group.{method}" for method in ("exec", *METHODS)]
    for method in ("exec", *METHODS):
        started.ask("group", method, source="127.0.0.77")

    def kinds() -> list[set[str]]:
        lines = [re.sub(r"pid=\d+", "pid=N", line.partition(": ")[2]) for line in log.read_text().splitlines()]
        return [
            {line.replace(label, "") for line in lines if f" {label} " in line and "from=127.0.0.77" in line}
            for label in labels
        ]  # fmt: skip

    expected = [{"START:  pid=N from=127.0.0.77"}] * len(labels)
    wait_for(lambda: kinds() == expected, lambda: str(kinds()))
