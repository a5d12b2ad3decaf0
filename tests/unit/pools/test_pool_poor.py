"""Pools of an acceptor that has no descriptor left for the next process."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
from pathlib import Path

import pytest

from fastinetd.core.layout import Method
from fastinetd.pools.pool import PoolEvent, PoolState, Recycling
from support.pooled import Pooled
from support.proc import descriptors, wait_for

READY = "printf '\\0\\0\\0\\0' >&3; exec sleep 600"
"""A worker that is ready, and waits."""


def watched(acceptor: int) -> dict[int, int]:
    """Descriptor -> pid of each process that an acceptor watches."""
    found = {}
    for number, what in descriptors(acceptor).items():
        if what == "anon_inode:[pidfd]":
            text = Path(f"/proc/{acceptor}/fdinfo/{number}").read_text()
            match = re.search(r"^Pid:\s+(\d+)", text, re.MULTILINE)
            assert match
            found[number] = int(match[1])
    return found


@pytest.mark.parametrize("kind", [Method.ZYGOTE, Method.PREFORK, Method.WORKER])
def test_no_descriptor_to_watch_a_process_by(pooled: Pooled, kind: Method) -> None:
    """It is told, with the reason; what was started is reaped soon; clients are served by exec meanwhile."""
    program = ("/bin/cat",) if kind != Method.WORKER else ("/bin/sh", "-c", READY)
    pid = pooled.serve(kind, *program, least=1, most=1, workers=1)
    state = PoolState.HOLDING if kind == Method.ZYGOTE else PoolState.IDLE
    pooled.await_state(state, 1)
    last, victim = max(watched(pid).items())
    assert set(range(64, last)) <= set(descriptors(pid)), "all numbers below it are taken"
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (last, before[1]))
    os.kill(victim, signal.SIGKILL)
    assert pooled.await_pool_event(PoolEvent.NO_START) == errno.EMFILE
    pooled.await_recycled(Recycling.MISTRUSTED, 5)
    wait_for(lambda: all(each.alive for each in pooled.children(pid)), "those that failed are reaped", 1)
    client = pooled.connect()
    client.sendall(b"x\n")
    wait_for(lambda: pooled.by(Method.EXEC) == 1, "a server by exec")
    client.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    pooled.await_state(state, 1)
    wait_for(lambda: all(each.alive for each in pooled.children(pid)), "nothing is left of those that failed")
