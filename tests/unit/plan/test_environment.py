"""What the daemon was started with, as servers are to find it; how it is put together is in test_plan.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastinetd.plan.environment import MANAGERS, environment_at_start


def test_the_first_and_the_last_and_those_without_a_value() -> None:
    code = "from fastinetd.plan.environment import environment_at_start as at_start; print(*at_start(), sep='|')"
    command = ["env", "-i", "B=2", "EMPTY=", "A=1 2", sys.executable, "-c", code]
    root = Path(__file__).parents[3]
    assert subprocess.check_output(command, text=True, cwd=root).strip() == "b'B=2'|b'EMPTY='|b'A=1 2'"


def test_without_proc_it_is_what_python_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setenv("FIRST", "1=2")
    assert b"FIRST=1=2" in environment_at_start()
    assert len(environment_at_start()) == len(os.environb)


def test_servers_are_not_told_what_the_service_manager_tells_the_daemon() -> None:
    """systemd.exec(5): a server would say READY=1 for the daemon, or take descriptors that it has not got."""
    assert {
        "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "MAINPID",
        "MANAGERPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "FDSTORE",
    } <= MANAGERS  # fmt: skip
