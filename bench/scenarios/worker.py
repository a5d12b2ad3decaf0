"""Processes that live on and take one connection after another, against a C server that answers in-process: what
is left of its rate is the price of handing each connection over."""

from __future__ import annotations

import functools
import subprocess
import sys

from bench import pooled
from bench.build import HANDLER
from bench.peers import IN_PROCESS, PASSES
from bench.scenario import RATE_COLUMNS, Bench, Case, Target

SUMMARY = "a line from processes that live on, 32 clients at a time"
COLUMNS = (*RATE_COLUMNS, pooled.SHARE)
BASELINE = IN_PROCESS.name
TARGETS = (
    Target("fastinetd, C worker", "rate", at_least=0.75, over=IN_PROCESS.name),
    Target("fastinetd, Python handler", "rate", at_least=0.5, over=IN_PROCESS.name),
)
CONTENDERS = ("reference", "xinetd")


@functools.cache
def python_for(user: str) -> bool:
    """Whether *user* may run this Python and import the daemon from it: handlers run in the daemon's own."""
    command = [sys.executable, "-c", "import fastinetd"]
    try:
        return subprocess.run(command, user=user, cwd="/", capture_output=True).returncode == 0
    except OSError:
        return False


def notes(bench: Bench) -> list[str]:
    """A line for the record where the handler must run as ourselves: that does not change its rate, a worker switches
    user once."""
    if python_for(bench.user.name):
        return []
    return [f"the Python handler ran as the daemon's user: {bench.user.name} cannot run this checkout's Python"]


def cases(bench: Bench) -> dict[str, Case]:
    def peer(name: str, service: str = "hello") -> Case:
        return lambda: bench.rate(name, bench.services(1, service))

    if "fastinetd" not in bench.peers:
        return {}
    handler = pooled.WORKER | {"handler": f"{HANDLER}:hello", "env": f"PYTHONPATH={bench.directory}"}
    if not python_for(bench.user.name):
        handler["user"] = "root"
    return {
        IN_PROCESS.name: peer(IN_PROCESS.name),
        PASSES.name: peer(PASSES.name),
        "fastinetd, C worker": lambda: pooled.measure_rate(bench, "worker", pooled.WORKER),
        "fastinetd, Python handler": lambda: pooled.measure_rate(bench, "", handler),
        "fastinetd, exec": lambda: pooled.measure_rate(bench, "hello", {}),
        **{name: peer(name) for name in CONTENDERS if name in bench.peers},
    }
