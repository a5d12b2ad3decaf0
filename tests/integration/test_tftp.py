"""in.tftpd, the dgram wait server that most installations have, with many clients at once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import crowd, free_port
from support.daemon import Daemon
from support.texts import Service

SIZES = [0, 1, 511, 512, 513, 40_000, 150_001]


@pytest.mark.usefixtures("root")
def test_fifty_transfers_at_once(form: Callable[..., Daemon], need: Callable[[str], str], folder: Path) -> None:
    """None of them fails, and the same server serves them all."""
    server, client = need("in.tftpd"), need("tftp")
    shared, got = folder / "tftp", folder / "got"
    shared.mkdir()
    got.mkdir()
    for size in SIZES:
        (shared / f"file{size}").write_bytes(os.urandom(size))
        (shared / f"file{size}").chmod(0o644)
    port = free_port()
    daemon = form(Service("tftp", port, server, f"-s {shared}", wait=True, dgram=True, user="root"), metrics=True)

    def fetch(i: int) -> str:
        size = SIZES[i % len(SIZES)]
        command = [client, "-m", "binary", "127.0.0.1", str(port), "-c", "get", f"file{size}", f"{got}/{i}"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode or done.stdout or done.stderr:
            return f"{done.returncode} {done.stdout} {done.stderr}"
        same = (got / str(i)).read_bytes() == (shared / f"file{size}").read_bytes()
        return "" if same else f"file{size} has other bytes"

    assert [found for found in crowd(fetch, 50, 50) if found] == []
    assert daemon.metric("fastinetd_datagram_activations_total") == 1
    assert daemon.metric("fastinetd_children") == 1
