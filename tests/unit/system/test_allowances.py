"""Limits of the process: which of them end the start, and what is said."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastinetd.system import allowances
from support.clients import free_port
from support.texts import defaults, entry

HUGE = resource.RLIM_INFINITY
Limits = Callable[..., None]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """What getrlimit says from now on; what is not named has no limit."""

    def set_to(**values: int) -> None:
        found = {getattr(resource, name): value for name, value in values.items()}
        monkeypatch.setattr(resource, "getrlimit", lambda which: (found.get(which, HUGE),) * 2)

    return set_to


def test_enough(limits: Limits) -> None:
    limits()
    assert (allowances.refusal(), allowances.warnings()) == (None, [])
    limits(RLIMIT_NOFILE=80, RLIMIT_SIGPENDING=64)
    assert allowances.refusal() is None


@pytest.mark.parametrize(("limit", "value", "text"), [
    ("RLIMIT_NOFILE", 79, "no more than 79 descriptors may be open; allow at least 80 (ulimit -n, LimitNOFILE)"),
    ("RLIMIT_SIGPENDING", 0, "allow at least 64 (ulimit -i, LimitSIGPENDING)"),
])  # fmt: skip
def test_too_few(limits: Limits, limit: str, value: int, text: str) -> None:
    limits(**{limit: value})
    assert text in (allowances.refusal() or "")


def test_processor_time(limits: Limits) -> None:
    limits(RLIMIT_CPU=10)
    (text,) = allowances.warnings()
    assert "after 10 s" in text and "LimitCPU" in text


@pytest.mark.parametrize(("number", "limit", "where"), [
    (errno.EFBIG, "RLIMIT_FSIZE", "ulimit -f"), (errno.ENOMEM, "RLIMIT_AS", "ulimit -v"),
    (errno.ENOMEM, "RLIMIT_DATA", "ulimit -d"), (errno.EAGAIN, "RLIMIT_NPROC", "ulimit -u"),
    (errno.EMFILE, "RLIMIT_NOFILE", "ulimit -n"),
])  # fmt: skip
def test_what_is_behind_an_error(limits: Limits, number: int, limit: str, where: str) -> None:
    limits(**{limit: 7})
    text = allowances.explain_error(OSError(number, os.strerror(number)))
    assert os.strerror(number) in text and f" 7 ({where}" in text
    limits()
    assert where not in allowances.explain_error(OSError(number, os.strerror(number)))


def test_processes_are_limited_by_the_control_group_too(limits: Limits) -> None:
    """Root's are by nothing else."""
    limits(RLIMIT_NPROC=7)
    text = allowances.explain_error(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)))
    assert text.endswith("processes of this user 7 (ulimit -u, LimitNPROC) or the most processes of its control group "
                         "(TasksMax, --pids-limit of a container); allow more, or start without the limit")  # fmt: skip
    limits()
    assert "TasksMax" in allowances.explain_error(BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)))


def test_out_of_memory(limits: Limits) -> None:
    limits(RLIMIT_AS=9)
    assert "ulimit -v" in allowances.explain_error(MemoryError())
    limits()
    assert allowances.explain_error(MemoryError()) == "out of memory"


@pytest.mark.parametrize("more", ["", '-pidfile "$2"'], ids=["", "pidfile"])
@pytest.mark.parametrize(("limit", "where"), [
    ("-i 0", "ulimit -i"), ("-f 0", "ulimit -f"), ("-f 1000", "ulimit -f"), ("-v 300000", "ulimit -v"),
    ("-n 70", "ulimit -n"),
])  # fmt: skip
def test_the_command(tmp_path: Path, limit: str, where: str, more: str) -> None:
    """One line that names the limit and what to do, and status 1."""
    conf = tmp_path / "x.conf"
    conf.write_text(defaults() + entry("cat", free_port(), "/bin/cat"))
    script = f'ulimit {limit} && exec "$0" -m fastinetd -dontfork -f "$1" {more}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, str(conf), str(tmp_path / "pid")],
        capture_output=True, text=True, check=False, timeout=60,
        env={key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout == ""
    (said,) = (line for line in done.stderr.splitlines() if where in line)
    assert "Traceback" not in done.stderr
    assert "allow" in said
