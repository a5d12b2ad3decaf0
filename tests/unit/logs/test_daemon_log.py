"""The daemon's own messages: their shapes, their destinations, and that none of them can stop it."""

from __future__ import annotations

import os
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.journald import is_journald_stream
from fastinetd.logs.lines import TEXT_LIMIT, Level, printable_line
from fastinetd.logs.sink import LONGEST_PAUSE
from fastinetd.logs.xinetd_format import XinetdFormats
from support.logs import Clock

WHEN = 1_790_000_000.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def made(**options: Any) -> DaemonLog:
    return DaemonLog(XinetdFormats(), wall=lambda: WHEN, **{"clock": Clock(), "environ": {}, **options})


def test_filelog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "d.log"
    messages = made(filelog=str(log), debug=True)
    for say in ("debug", "info", "notice", "warning", "error", "critical"):
        getattr(messages, say)(f"a {say}")
    messages.close()
    shape = rf"\d\d/\d{{1,2}}/\d{{1,2}}@\d\d:\d\d:\d\d xinetd\[{os.getpid()}\]: ([A-Z]+): a ([a-z]+)"
    found = [re.fullmatch(shape, line) for line in log.read_text().splitlines()]
    assert [m and m[1] for m in found] == ["DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL"]
    assert all(m and m[1].lower() == m[2] for m in found)


def test_debug_is_off_unless_asked_for(tmp_path: Path) -> None:
    messages = made(filelog=str(tmp_path / "d.log"))
    messages.debug("nothing")
    messages.close()
    assert (tmp_path / "d.log").read_text() == ""


def test_syslog(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        messages = made(syslog="local3", syslog_path=str(tmp_path / "log"))
        messages.error("bad")
        line = daemon.recv(1000).decode()
        messages.close()
    assert re.fullmatch(rf"<155>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d xinetd\[{os.getpid()}\]: bad", line)


def test_stderr(pipe: tuple[int, int]) -> None:
    messages = made(stderr=True, stderr_fd=pipe[1])
    messages.info("one")
    messages.warning("two")
    messages.also_stderr(False)
    messages.error("three")
    messages.also_stderr(True)
    messages.critical("four")
    assert os.read(pipe[0], 1000) == b"fastinetd: one\nfastinetd: warning: two\nfastinetd: critical: four\n"


def test_journald(pipe: tuple[int, int]) -> None:
    status = os.fstat(pipe[1])
    environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert is_journald_stream(pipe[1], environ)
    assert not is_journald_stream(pipe[1], {})
    assert not is_journald_stream(9999, environ)
    messages = made(stderr=True, stderr_fd=pipe[1], environ=environ)
    messages.notice("one")
    messages.error("two")
    assert os.read(pipe[0], 1000) == b"<5>one\n<3>two\n"


def test_a_reader_of_stderr_that_stands_still(pipe: tuple[int, int]) -> None:
    clock = Clock()
    messages = made(stderr=True, stderr_fd=pipe[1], clock=clock)
    for i in range(3000):
        messages.info(f"{i:05d}" + "x" * 100)
    assert messages.lost == 0
    assert messages.flush() is not None
    got = b""
    while messages.flush() is not None or select.select([pipe[0]], [], [], 0)[0]:
        got += os.read(pipe[0], 1 << 16)
        clock.now += LONGEST_PAUSE
        messages.flush()
    assert [int(line[11:16]) for line in got.splitlines()] == list(range(3000))


def test_a_closed_stderr() -> None:
    read, write = os.pipe()
    os.close(read)
    messages = made(stderr=True, stderr_fd=write)
    messages.info("one")
    os.close(write)
    messages.info("two")
    messages.close()
    assert messages.lost > 0


def test_a_filelog_that_cannot_be_written_is_said_elsewhere(pipe: tuple[int, int]) -> None:
    messages = made(filelog="/dev/full", stderr=True, stderr_fd=pipe[1])
    messages.info("one")
    said = os.read(pipe[0], 1000).decode()
    assert "fastinetd: one\n" in said
    assert "error: cannot write log file /dev/full: No space left on device (errno = 28)" in said
    messages.close()


def test_rotation_of_the_filelog(tmp_path: Path) -> None:
    log = tmp_path / "d.log"
    messages = made(filelog=str(log))
    messages.info("one")
    log.rename(tmp_path / "old")
    messages.reopen()
    messages.info("two")
    messages.close()
    assert "two" in log.read_text() and "two" not in (tmp_path / "old").read_text()


def test_a_message_is_one_line(tmp_path: Path) -> None:
    messages = made(filelog=str(tmp_path / "d.log"))
    messages.error("a\nb\x1b[31m\udcff\u2028")
    messages.close()
    assert (tmp_path / "d.log").read_text().endswith("ERROR: a\\nb\\x1b[31m\\udcff\\u2028\n")


def test_printable() -> None:
    assert printable_line("grün: ok") == "grün: ok"
    assert len(printable_line("x" * 10_000)) == TEXT_LIMIT
    assert Level.CRITICAL < Level.ERROR < Level.DEBUG


def test_the_line_about_lost_messages(pipe: tuple[int, int]) -> None:
    clock = Clock()
    messages = made(stderr=True, stderr_fd=pipe[1], clock=clock)
    filler = b"x" * 65536
    os.set_blocking(pipe[1], False)
    os.write(pipe[1], filler)
    os.set_blocking(pipe[1], True)
    for _ in range(10_001):
        messages.info("m")
    assert messages.lost == 1
    assert os.read(pipe[0], 65536) == filler
    clock.now += LONGEST_PAUSE
    messages.flush()
    assert os.read(pipe[0], 100).startswith(b"fastinetd: warning: 1 record could not be written\n")


@pytest.mark.parametrize(("syslog", "leads", "told"), [
    ("daemon", "journal", [0, 1]), (None, "journal", [0, 0]), ("daemon", "elsewhere", [1, 1]),
])
def test_journald_gets_a_message_once(tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch,
                                  syslog: str | None, leads: str, told: list[int]) -> None:  # fmt: skip
    """Standard error and syslog lead to the same place where both are journald's: so syslog is told what is not told on
    standard error, once the daemon serves."""
    monkeypatch.setattr("fastinetd.logs.journald.JOURNALD", f"{tmp_path}/journal/")
    for name in ("journal", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "log").symlink_to(tmp_path / leads / "dev-log")
    reader, writer = pipe
    status = os.fstat(writer)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / leads / "dev-log"))
        messages = made(syslog=syslog, syslog_path=str(tmp_path / "log"), stderr=True, stderr_fd=writer,
                        environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        heard = []
        for on in (True, False):
            messages.also_stderr(on)
            messages.error("bad")
            assert len(select.select([reader], [], [], 0)[0]) == on
            if on:
                assert os.read(reader, 100) == b"<3>bad\n"
            heard.append(len(select.select([daemon], [], [], 0)[0]))
            if heard[-1]:
                daemon.recv(1000)
        messages.close()
    assert heard == told
