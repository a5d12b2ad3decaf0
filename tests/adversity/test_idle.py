"""A thousand services, and nobody comes: what that costs."""

from __future__ import annotations

import re
from pathlib import Path

from adversity.harm import ECHO, HELLO, at_rest, builtin, switches

from support.clients import ask, free_port
from support.daemon import Launch
from support.texts import defaults, entry


def memory(pid: int) -> int:
    """A process's share of the memory it uses, in kB."""
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_idle(launch: Launch, root: None) -> None:
    """Fewer than two wake-ups a second over all processes, and less than 80 MB."""
    ports = [free_port() for _ in range(1000)]
    text = "".join(entry(f"s{n}", port, ECHO, "hello") for n, port in enumerate(ports))
    daemon = launch(defaults() + text + builtin("echo", free_port()), "--acceptors", "2", metrics=True)
    assert ask(ports[500]) == HELLO
    pids = list(daemon.roles().values())
    at_rest(pids, 9, 5, switches)  # records are drained a while longer
    assert sum(map(memory, pids)) < 80 << 10
