"""Connections that are taken only after their acceptor's death, because it was just starting something."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from adversity.harm import CAT, Keep, acceptors, consistent, gone, replaced, unbalanced
from adversity.test_pools_soak import Guest

from support.clients import connect, free_port
from support.daemon import Launch
from support.pools import descendants, gauges, tally
from support.proc import below, wait_for
from support.programs import Need
from support.texts import defaults, entry

pytestmark = pytest.mark.usefixtures("root")

PAUSE = 4_000_000
"""Microseconds."""


def start_slowly(acceptor: int) -> subprocess.Popen[bytes]:
    """Whatever it starts stands still for a while at its first step; returns when that is so."""
    strace = shutil.which("strace")
    assert strace is not None
    traced = subprocess.Popen(
        [strace, "-f", "-qq", "-o", os.devnull, "-e", "trace=timer_create", "-e",
         f"inject=timer_create:delay_enter={PAUSE}", "-p", str(acceptor)],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: f"TracerPid:\t{traced.pid}" in Path(f"/proc/{acceptor}/status").read_text(), "it is traced")
    return traced


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix"])
def test_limits_are_exact(launch: Launch, keep: Keep[Any], folder: Path, need: Need, host: str) -> None:
    """The process that it was starting has all its sockets, so parked children can say that they have taken clients."""
    need("strace")
    program, file = tally(folder)
    port: int | str = str(folder / "held.socket") if host == "unix" else free_port()
    other, log = free_port(), folder / "records"
    more: dict[str, object] = {"spawn": "prefork", "min_spare": 2, "max_spare": 2, "instances": 3}
    if host != "unix":
        more["bind"] = host
    text = defaults(log) + entry("other", other, CAT) + entry("held", port, program, f"@{file}", user="nobody", **more)
    daemon = launch(text, "--acceptors", "1", metrics=True)
    (acceptor,) = acceptors(daemon)
    wait_for(lambda: gauges(daemon, "held")["idle"] == 2, "ready")
    pool = [*descendants(daemon, "tally")]
    before = set(below(daemon.pid))
    traced = start_slowly(acceptor)
    try:
        for pid in pool:
            os.kill(pid, signal.SIGSTOP)
        late = [keep(Guest(port, f"hold{n}", host)) for n in range(2)]
        daemon.await_metric("fastinetd_children", 2, service="held")
        keep(connect(other))
        wait_for(lambda: len(set(below(daemon.pid)) - before) == 1, "it starts a server")
        os.kill(acceptor, signal.SIGKILL)
        wait_for(lambda: gone(acceptor), "it is dead")
        replaced(daemon, acceptor, 3)
        for pid in pool:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        assert all(each.admitted() for each in late)
        daemon.await_metric("fastinetd_children", 2, service="held")
        others = [keep(Guest(port, f"hold-more{n}", host)) for n in range(2)]
        assert sorted(each.admitted() for each in others) == [False, True], "instances = 3"
    finally:
        traced.kill()
        traced.wait()
    assert all(each.echoes() for each in late)
    daemon.await_metric("fastinetd_children", 3, service="held")
    for each in (*late, *others):
        each.close()
    daemon.await_metric("fastinetd_children", 0, service="held")
    consistent(daemon)
    wait_for(lambda: not unbalanced(log, "held"), lambda: unbalanced(log, "held"))
