"""The ServiceLog: records to the right places, in batches, whatever becomes of those places."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinetd.config.model import LogKind, LogType
from fastinetd.core.layout import Field, RecordKind
from fastinetd.core.records import JournalRecord
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.format import LoggedService
from fastinetd.logs.service_log import REPEAT_AFTER, ServiceLog
from fastinetd.logs.sink import ENTRIES_KEPT, LONGEST_PAUSE
from fastinetd.logs.xinetd_format import XinetdFormats
from fastinetd.pools.pool import PoolEvent
from support.logs import Clock

WHEN = 1_790_000_000.5
FIELDS = int(Field.SHOW_PID | Field.SHOW_HOST | Field.SHOW_EXIT | Field.SHOW_DURATION)


def start(pid: int = 10, row: int = 0, when: float = WHEN) -> JournalRecord:
    return JournalRecord(when, row, int(RecordKind.START), 0, pid, 0, False, 0, "192.0.2.7", 4000, FIELDS)


def pool_event(reason: PoolEvent, row: int = 0) -> JournalRecord:
    return JournalRecord(WHEN, row, int(RecordKind.POOL), reason, 0, 5, False, 0, "", 0, 0)


def failed(number: int, row: int = 0) -> JournalRecord:
    return JournalRecord(WHEN, row, int(RecordKind.SPAWN_FAILED), 0, 0, number, False, 0, "192.0.2.7", 4000, 0)


def to_file(path: Path, name: str = "web", **limits: Any) -> LoggedService:
    return LoggedService(name, LogType(LogKind.FILE, path=str(path), **limits), "/usr/sbin/webd")


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "XST-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    return tmp_path / "daemon.log"


@pytest.fixture
def messages(heard: Path, clock: Clock, tmp_path: Path) -> Iterator[DaemonLog]:
    devlog = str(tmp_path / "devlog")
    made = DaemonLog(XinetdFormats(), filelog=str(heard), clock=clock, wall=lambda: WHEN, syslog_path=devlog)
    yield made
    made.close()


@pytest.fixture
def service_log(messages: DaemonLog, clock: Clock) -> ServiceLog:
    return ServiceLog(messages, clock=clock)


def said(heard: Path) -> list[str]:
    return [re.sub(r"^\S+ xinetd\[\d+\]: ", "", line) for line in heard.read_text().splitlines()]


def test_file_lines(service_log: ServiceLog, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    service_log.configure({0: to_file(log), 1: to_file(log, "ftp")})
    service_log.write([start(1), start(2, row=1), start(3, when=WHEN + 60)])
    assert log.read_text().splitlines() == [
        "26/9/21@19:43:20: START: web pid=1 from=192.0.2.7",
        "26/9/21@19:43:20: START: ftp pid=2 from=192.0.2.7",
        "26/9/21@19:44:20: START: web pid=3 from=192.0.2.7",
    ]
    assert log.stat().st_mode & 0o777 == 0o644 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_one_write_per_file_and_batch(service_log: ServiceLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "x.log"
    service_log.configure({0: to_file(log), 1: to_file(log, "ftp")})
    real = os.write
    calls: list[int] = []

    def write(fd: int, data: bytes) -> int:
        calls.append(len(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    service_log.write([start(i, row=i % 2) for i in range(1000)])
    monkeypatch.undo()
    assert len(calls) == 1
    assert len(log.read_text().splitlines()) == 1000


def test_syslog_lines(service_log: ServiceLog, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "devlog"))
        service_log.configure({0: LoggedService("web", LogType(LogKind.SYSLOG, facility="authpriv", level="info"))})
        service_log.write([start(5)])
        line = daemon.recv(9000).decode()
    assert line == f"<86>Sep 21 19:43:20 xinetd[{os.getpid()}]: START: web pid=5 from=192.0.2.7"


def test_no_log(service_log: ServiceLog, tmp_path: Path) -> None:
    service_log.configure({0: LoggedService("web", LogType())})
    service_log.write([start()])
    assert service_log.lost == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "daemon.log"]


def test_records_share_the_daemons_file_and_keep_their_shape(
    service_log: ServiceLog, messages: DaemonLog, heard: Path
) -> None:
    service_log.configure({0: to_file(heard)})
    service_log.write([start(1)])
    messages.info("hello")
    assert heard.read_text().splitlines() == [
        "26/9/21@19:43:20: START: web pid=1 from=192.0.2.7",
        f"26/9/21@19:43:20 xinetd[{os.getpid()}]: INFO: hello",
    ]
    assert len(messages.sinks.descriptors()) == 1


def test_a_removed_service_still_gets_its_exit_record(service_log: ServiceLog, tmp_path: Path) -> None:
    log, other = tmp_path / "x.log", tmp_path / "y.log"
    service_log.configure({0: to_file(log)})
    service_log.configure({1: to_file(other)})
    service_log.write([start(1)])
    assert "pid=1" in log.read_text()


def test_files_no_row_needs_are_closed(service_log: ServiceLog, messages: DaemonLog, tmp_path: Path) -> None:
    service_log.configure({0: to_file(tmp_path / "x.log"), 1: to_file(tmp_path / "y.log")})
    assert len(messages.sinks.descriptors()) == 3
    service_log.forget(1)
    assert service_log.flush() is None
    assert len(messages.sinks.descriptors()) == 2
    service_log.configure({0: to_file(tmp_path / "z.log")})
    assert len(messages.sinks.descriptors()) == 2
    service_log.write([start(1), start(2, row=1)])
    assert (tmp_path / "x.log").read_text() == ""
    assert "pid=1" in (tmp_path / "z.log").read_text()
    assert service_log.lost == 1  # row 1 is nobody's


def test_rotation(service_log: ServiceLog, tmp_path: Path) -> None:
    log, old = tmp_path / "x.log", tmp_path / "x.log.1"
    service_log.configure({0: to_file(log)})
    service_log.write([start(1)])
    log.rename(old)
    service_log.write([start(2)])
    service_log.reopen()
    service_log.write([start(3)])
    assert [line.count("pid=") for line in (old.read_text(), log.read_text())] == [2, 1]


def test_a_full_disk_is_said_once_and_stops_nothing(service_log: ServiceLog, heard: Path, clock: Clock) -> None:
    service_log.configure({0: to_file(Path("/dev/full"))})
    for i in range(300):
        service_log.write([start(i)])
        clock.now += 0.01
    service_log.reopen()
    service_log.write([start(301)])
    assert said(heard) == [
        "ERROR: cannot write log file /dev/full: No space left on device (errno = 28); "
        f"up to {ENTRIES_KEPT} records are kept meanwhile"
    ]
    assert service_log.lost == 0
    assert 0 < (service_log.flush() or 0) <= LONGEST_PAUSE


def test_a_folder_that_appears_later(service_log: ServiceLog, heard: Path, clock: Clock, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    service_log.configure({0: to_file(log)})
    service_log.write([start(i) for i in range(ENTRIES_KEPT + 5)])
    assert service_log.lost == 5
    assert "make its folder; " in said(heard)[0]
    log.parent.mkdir()
    clock.now += LONGEST_PAUSE
    while service_log.flush() is not None:
        pass
    lines = log.read_text().splitlines()
    assert lines[0].endswith(": 5 records could not be written")
    pids = [int(pid) for line in lines[1:] for pid in re.findall(r"pid=(\d+)", line)]
    assert pids == list(range(5, ENTRIES_KEPT + 5))
    assert [line.split(":")[0] for line in said(heard)] == ["ERROR", "ERROR", "NOTICE"]


def test_the_loss_is_said_once(service_log: ServiceLog, clock: Clock, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    service_log.configure({0: to_file(log)})
    service_log.write([start(i) for i in range(ENTRIES_KEPT + 1)])
    log.parent.mkdir()
    clock.now += LONGEST_PAUSE
    while service_log.flush() is not None:
        pass
    service_log.write([start(1)])
    assert log.read_text().count("could not be written") == 1
    assert service_log.lost == 1


def test_hard_limit(service_log: ServiceLog, heard: Path, clock: Clock, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    service_log.configure({0: to_file(log, soft_limit=60, hard_limit=100)})
    service_log.write([start(i) for i in range(10, 20)])
    service_log.write([start(i) for i in range(20, 30)])
    assert 100 <= log.stat().st_size < 200
    assert log.read_text().endswith("\n")
    said_now = said(heard)
    assert sum("soft limit of 60 bytes" in line for line in said_now) == 1
    assert sum("hard limit of 100 bytes" in line for line in said_now) == 1
    log.rename(tmp_path / "x.log.1")
    service_log.reopen()
    written = (tmp_path / "x.log.1").read_text() + log.read_text()
    assert [int(n) for n in re.findall(r"pid=(\d+)", written)] == list(range(10, 10 + written.count("pid=")))
    log.write_text("")
    clock.now += LONGEST_PAUSE
    service_log.flush()
    assert log.stat().st_size >= 100


def test_failed_starts_are_no_flood(service_log: ServiceLog, heard: Path, clock: Clock, tmp_path: Path) -> None:
    service_log.configure({0: to_file(tmp_path / "x.log")})
    service_log.write([failed(2)] * 1000)
    service_log.write([failed(13)])
    text = "service web: execv( /usr/sbin/webd ) failed: "
    remedy = "; `fastinetd --check` says whether the program, its interpreter or a folder is meant, and for whom"
    reasons = ("No such file or directory (errno = 2)", "Permission denied (errno = 13)")
    first = [f"ERROR: {text}{reason}{remedy}" for reason in reasons]
    assert said(heard) == first
    assert service_log.flush() == REPEAT_AFTER
    clock.now += REPEAT_AFTER
    assert service_log.flush() is None
    assert said(heard) == [*first, f"{first[0]} [999 times more in 10 seconds]"]
    service_log.write([failed(2)] * 2)
    service_log.close()
    assert said(heard)[3:] == [first[0], f"{first[0]} [once more in 10 seconds]"]


def test_each_cause_of_each_service_is_said(service_log: ServiceLog, heard: Path, tmp_path: Path) -> None:
    """What one has said a moment ago keeps nobody else silent."""
    service_log.configure({row: to_file(tmp_path / "x.log", name) for row, name in enumerate(("web", "mail"))})
    refused = failed(2)._replace(kind=int(RecordKind.ACCEPT_FAILED))
    service_log.write([failed(2), failed(13), failed(2, row=1), refused, *[failed(2)] * 5])
    told = [(line.split()[2], "accept" in line, "errno = 2)" in line) for line in said(heard)]
    assert told == [("web:", False, True), ("web:", False, False), ("mail:", False, True), ("web:", True, True)]


def test_what_comes_again_later_is_logged_again(
    service_log: ServiceLog, heard: Path, clock: Clock, tmp_path: Path
) -> None:
    """Before that, how often it came up meanwhile, though nobody has flushed since; each at its own time."""
    service_log.configure({0: to_file(tmp_path / "x.log")})
    service_log.write([failed(2)] * 3)
    clock.now += 4.0
    service_log.write([failed(13)] * 2)
    assert service_log.flush() == REPEAT_AFTER - 4.0
    clock.now += REPEAT_AFTER - 4.0
    service_log.write([failed(2)])
    assert ["more in 10 seconds" in line for line in said(heard)] == [False, False, True, False]
    assert "[2 more" not in said(heard)[2] and "[2 times more" in said(heard)[2]
    assert service_log.flush() == 4.0


def test_what_becomes_of_a_pool_is_said_once(service_log: ServiceLog, heard: Path, tmp_path: Path) -> None:
    """Until the configuration is read again; and each thing of each service."""
    service_log.configure({row: to_file(tmp_path / "x.log", name) for row, name in enumerate(("web", "mail"))})
    for _ in range(2):
        hung = pool_event(PoolEvent.HUNG)
        service_log.write([hung, hung, hung, pool_event(PoolEvent.UNINTELLIGIBLE), pool_event(PoolEvent.HUNG, row=1)])
        service_log.write([pool_event(PoolEvent.HUNG)])
    every = [("web:", "left"), ("web:", "said"), ("mail:", "left")]
    assert [(line.split()[2], line.split()[8]) for line in said(heard)] == every
    service_log.reopen()
    service_log.write([pool_event(PoolEvent.HUNG), pool_event(PoolEvent.HUNG)])
    assert [(line.split()[2], line.split()[8]) for line in said(heard)] == [*every, every[0]]
    assert (tmp_path / "x.log").read_text() == ""


def test_services_that_share_a_file_have_the_smallest_limits(
    service_log: ServiceLog, heard: Path, tmp_path: Path
) -> None:
    log = tmp_path / "x.log"
    larger = to_file(log, soft_limit=60, hard_limit=3000)
    service_log.configure({0: larger, 1: to_file(log, soft_limit=90, hard_limit=100)})
    service_log.write([start(i) for i in range(10, 20)])
    service_log.write([start(i) for i in range(20, 30)])
    assert 100 <= log.stat().st_size < 200
    told = [re.findall(r"\w+ limit of \d+", line) for line in said(heard)]
    assert told == [["soft limit of 60"], ["hard limit of 100"]]


def test_an_id_cannot_forge_a_line(service_log: ServiceLog, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    service_log.configure({0: to_file(log, "a\nb\udcff")})
    service_log.write([start(1)])
    assert log.read_text() == "26/9/21@19:43:20: START: a\\nb\\udcff pid=1 from=192.0.2.7\n"


def test_unknown_rows_are_counted(service_log: ServiceLog) -> None:
    service_log.write([start(1, row=77)])
    assert service_log.lost == 1


def test_a_pool_event_that_does_not_exist_is_counted(service_log: ServiceLog, heard: Path, tmp_path: Path) -> None:
    service_log.configure({0: to_file(tmp_path / "x.log")})
    none = max(PoolEvent) + 1
    service_log.write([pool_event(PoolEvent.HUNG)._replace(reason=none), start(10)])
    assert service_log.lost == 1
    assert "pid=10" in (tmp_path / "x.log").read_text()
    assert said(heard) == []


@pytest.mark.parametrize("kind", [0, *map(int, RecordKind), 2**16 - 1])
@settings(max_examples=40)
@given(
    record=st.builds(
        JournalRecord,
        when=st.floats(0, 2**64 / 1e9),
        row=st.just(0),
        kind=st.just(0),
        reason=st.integers(0, 20) | st.integers(0, 2**16 - 1),
        pid=st.integers(-(2**31), 2**31 - 1),
        value=st.integers(-(2**31), 2**31 - 1),
        signalled=st.booleans(),
        seconds=st.integers(0, 2**32 - 1),
        address=st.sampled_from(["", "unix", "192.0.2.7", "2001:db8::1"]),
        port=st.integers(0, 2**16 - 1),
        fields=st.integers(0, 2**32 - 1),
    )
)
def test_no_number_in_a_record_stops_the_supervisor(kind: int, record: JournalRecord) -> None:
    """Processes without privileges write records, too."""
    messages = DaemonLog(XinetdFormats(), filelog="/dev/null")
    service_log = ServiceLog(messages)
    service_log.configure({0: to_file(Path("/dev/null"))})
    service_log.write([record._replace(kind=kind)])
    service_log.close()
    messages.close()
