"""Real programs with their real clients, forked from held programs; nobody changes a program for that."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from support import programs
from support.daemon import Daemon
from support.lacking import need_modules
from support.proc import wait_for
from support.programs import Form, Need
from support.texts import Service, defaults

ACCEPTORS = 2

POOLS: dict[str, tuple[str, dict[str, object]]] = {
    "zygote": ("xinetd", {"spawn": "zygote"}),
    "prefork": ("inetd", {"spawn": "prefork", "min_spare": 8}),
    "zygote-first_io": ("toml", {"spawn": "zygote", "snapshot": "first_io"}),
    "prefork-first_io": ("inetd", {"spawn": "prefork", "min_spare": 8, "snapshot": "first_io"}),
}
"""Each in one of the forms that a service may be written in."""


@pytest.fixture(params=POOLS)
def form(request: pytest.FixtureRequest, launch: Callable[..., Daemon]) -> Iterator[Form]:
    """Start services with pools, and wait until these are ready; at the end they must have served all clients."""
    kind, pool = POOLS[request.param]
    started: list[Daemon] = []

    def start(*services: Service, **options: object) -> Daemon:
        texts = [getattr(replace(service, more=service.more | pool), kind)() for service in services]
        head = {"xinetd": defaults(), "toml": "[defaults]\ncps = [0, 0]\n", "inetd": ""}[kind]
        kept = ["--keep-environment"] if kind == "inetd" else []  # Debian's inetd hands on no HOME, which git wants
        daemon = launch(head + "".join(texts), "--acceptors", str(ACCEPTORS), *kept, kind=kind,
                        **({"metrics": True} | options))
        started.append(daemon)
        await_pools(daemon, len(services), 8 if pool["spawn"] == "prefork" else 0)
        return daemon

    yield start
    for daemon in started:
        served_by_pools(daemon, str(pool["spawn"]))


def await_pools(daemon: Daemon, services: int = 1, spare: int = 0) -> None:
    """Wait until all zygotes hold their programs, and so many of their children wait for clients."""

    def ready() -> bool:
        return (daemon.metric("fastinetd_pool_processes", state="zygote") == ACCEPTORS * services
                and daemon.metric("fastinetd_pool_processes", state="idle") >= spare * services)

    wait_for(ready, lambda: f"pools are ready: {daemon.said()}", 60)
    daemon.remember_descriptors()


def served_by_pools(daemon: Daemon, method: str) -> None:
    """Nothing was served by exec, no pool has lost a process, and nobody complained."""
    accepted = daemon.metric("fastinetd_connections_accepted_total")
    by_method = {
        each: daemon.metric("fastinetd_spawn_latency_seconds_count", method=each) for each in ("exec", "zygote")
    }
    hits, misses = (daemon.metric(f"fastinetd_pool_{each}_total") for each in ("hits", "misses"))
    assert accepted > 0
    assert hits + misses == accepted, daemon.said()
    assert by_method["exec"] == 0, daemon.said()
    assert hits > 0 and (misses == 0 or method == "prefork"), (hits, misses)
    for reason in ("died", "mistrusted", "changed"):
        assert daemon.metric("fastinetd_pool_recycled_total", reason=reason) == 0, (reason, daemon.said())


PROGRAMS = programs.OF_ANYBODY | {"git-daemon": partial(programs.git_clone, args="")}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(form: Form, need: Need, folder: Path, name: str) -> None:
    programs.serve(PROGRAMS[name], form, need, folder)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("name", programs.AS_ROOT)
def test_program_of_root(form: Form, need: Need, folder: Path, name: str) -> None:
    programs.serve(programs.AS_ROOT[name], form, need, folder)


PAGE = (Path(__file__).parents[2] / "docs" / "pools.md").read_text()


def published(language: str) -> str:
    """The page's own lines that read the variables of the connection."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


SCRIPTS = {
    "bash": """#!/bin/bash
table=({a..z})
hear() {
    local name
    IFS=' ' read -r name && echo "$name"
}
echo who?
name_of_client=$(hear)
BASH
[ "${table[25]}" = z ] && echo "hello $name_of_client $* ${connection[REMOTE_HOST]}"
""".replace("BASH", published("bash")),
    "dash": """#!/bin/dash
say() { echo "$@"; }
say who?
IFS= read -r name
SH
say "hello $name $* $REMOTE_HOST"
""".replace("SH", published("sh")),
    "perl": """#!/usr/bin/perl
use strict; use warnings; use POSIX; use IO::Socket; use Socket;
$| = 1;
print "who?\\n";
chomp(my $name = <STDIN>);
my ($port, $address) = sockaddr_in(getpeername(STDIN));
print join(' ', 'hello', $name, @ARGV, inet_ntoa($address)), "\\n";
""",
    "perl-environ": """#!/usr/bin/perl
use strict; use warnings;
$| = 1;
print "who?\\n";
chomp(my $name = <STDIN>);
PERL
print join(' ', 'hello', $name, @ARGV, $connection{REMOTE_HOST}), "\\n";
""".replace("PERL", published("perl")),
    "python": """#!{python} -IS
import json, re, socket, sys
print("who?", flush=True)
name = re.match("(.*)", sys.stdin.readline())[1]
peer = socket.socket(fileno=0).getpeername()
print("hello", name, *sys.argv[1:], peer[0], flush=True)
""",
    "python-environ": """#!{python} -IS
import sys
print("who?", flush=True)
name = sys.stdin.readline().strip()
PYTHON
print("hello", name, *sys.argv[1:], variables[b"REMOTE_HOST"].decode(), flush=True)
""".replace("PYTHON", published("python")),
}
"""They ask for the client's address after their first use of it, as docs/pools.md says; so first_io is right too."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(form: Form, need: Need, folder: Path, name: str) -> None:
    if not name.startswith("python"):
        need(name.partition("-")[0])
    if name == "perl":
        need_modules("perl", "POSIX", "IO::Socket")
    programs.greeter(form, folder, SCRIPTS[name].replace("{python}", os.path.realpath(sys.executable)))
