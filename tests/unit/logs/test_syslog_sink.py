"""The syslog sink: datagrams and streams, a daemon that is slow, restarted, or not there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastinetd.logs.lines import FACILITIES, Level, syslog_priority, syslog_stamp
from fastinetd.logs.sink import LONGEST_BUSY_PAUSE, LONGEST_PAUSE
from fastinetd.logs.syslog_sink import SyslogSink
from support.logs import Clock, Reports


@pytest.fixture
def sink(tmp_path: Path, clock: Clock, reports: Reports) -> Iterator[SyslogSink]:
    made = SyslogSink(
        str(tmp_path / "log"), clock, lambda level, text: reports.append((level, text)), lambda n: f"{n} lost"
    )
    yield made
    made.close()


@contextmanager
def listening(path: Path, kind: int = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(path))
        if kind == socket.SOCK_STREAM:
            server.listen()
        server.settimeout(10)
        yield server
    path.unlink()


def received(server: socket.socket) -> list[bytes]:
    """What has arrived by now."""
    found = []
    server.setblocking(False)
    try:
        while True:
            found.append(server.recv(65536))
    except BlockingIOError:
        return found


def test_datagrams(sink: SyslogSink, tmp_path: Path) -> None:
    with listening(tmp_path / "log") as server:
        sink.put(["<30>one", "<30>two"])
        assert received(server) == [b"<30>one", b"<30>two"]


def test_stream(sink: SyslogSink, tmp_path: Path) -> None:
    with listening(tmp_path / "log", socket.SOCK_STREAM) as server:
        sink.put(["<30>one", "<30>two"])
        with server.accept()[0] as peer:
            assert peer.recv(100) == b"<30>one\0<30>two\0"


def test_a_stream_that_takes_part_of_a_line(sink: SyslogSink, tmp_path: Path, clock: Clock) -> None:
    with listening(tmp_path / "log", socket.SOCK_STREAM) as server:
        lines = [f"{i:06d}" + "x" * 7000 for i in range(100)]
        sink.put(lines)
        wanted, got = ("\0".join(lines) + "\0").encode(), b""
        with server.accept()[0] as peer:
            peer.settimeout(10)
            while len(got) < len(wanted):
                got += peer.recv(1 << 16)
                clock.now += LONGEST_BUSY_PAUSE
                sink.flush()
        assert got == wanted


def test_a_slow_daemon_gets_everything_in_order(
    sink: SyslogSink, tmp_path: Path, clock: Clock, reports: Reports
) -> None:
    with listening(tmp_path / "log") as server:
        lines = [f"<30>{i}" for i in range(3000)]
        sink.put(lines)
        got = received(server)
        assert 0 < len(got) <= 3000
        while (wait := sink.flush()) is not None:
            assert wait <= LONGEST_BUSY_PAUSE
            clock.now += wait
            got += received(server)
        got += received(server)
    assert got == [line.encode() for line in lines]
    assert reports == []


def test_no_daemon_then_one(sink: SyslogSink, tmp_path: Path, clock: Clock, reports: Reports) -> None:
    sink.put(["<30>one"])
    assert len(reports) == 1 and "No such file" in reports[0][1]
    assert "; start a syslog daemon, or write to a file (-filelog FILE; of services log_type" in reports[0][1]
    with listening(tmp_path / "log") as server:
        clock.now += LONGEST_PAUSE
        assert sink.flush() is None
        assert received(server) == [b"<30>one"]
    assert reports[-1][0] is Level.NOTICE


def test_a_restarted_daemon_is_found_at_once(sink: SyslogSink, tmp_path: Path, reports: Reports) -> None:
    with listening(tmp_path / "log") as server:
        sink.put(["one"])
        assert received(server) == [b"one"]
    with listening(tmp_path / "log") as server:
        sink.put(["two"])
        assert received(server) == [b"two"]
    assert reports == []


def test_loss_is_told_first(sink: SyslogSink, tmp_path: Path, clock: Clock) -> None:
    sink.put([str(i) for i in range(10_003)])
    with listening(tmp_path / "log") as server:
        clock.now += LONGEST_PAUSE
        sink.flush()
        assert received(server)[:2] == [b"3 lost", b"3"]
    assert sink.lost == 3


def test_reopen_connects_anew(sink: SyslogSink, tmp_path: Path) -> None:
    with listening(tmp_path / "log") as server:
        sink.put(["one"])
        first = os.fstat(sink.descriptor()).st_ino
        sink.reopen()
        sink.put(["two"])
        assert os.fstat(sink.descriptor()).st_ino != first
        assert received(server) == [b"one", b"two"]
        assert not os.get_inheritable(sink.descriptor())


def test_an_endless_line_is_cut(sink: SyslogSink, tmp_path: Path) -> None:
    with listening(tmp_path / "log") as server:
        sink.put(["x" * 100_000, "y"])
        assert [len(line) for line in received(server)] == [8000, 1]


@pytest.mark.parametrize(
    "facility, level, number",
    [
        ("authpriv", "info", 86),
        ("daemon", Level.ERROR, 27),
        ("daemon", Level.CRITICAL, 26),
        ("local3", Level.INFO, 158),
        ("nonsense", "nonsense", 30),
    ],
)
def test_priorities(facility: str, level: str | Level, number: int) -> None:
    assert syslog_priority(facility, level) == number


def test_facilities_are_those_of_the_system() -> None:
    import syslog

    for name, number in FACILITIES.items():
        known = getattr(syslog, f"LOG_{name.upper()}", None)
        assert known is None or known == number * 8


def test_stamp_has_a_padded_day(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    stamps = [syslog_stamp(t) for t in (1_788_480_000, 1_790_000_000)]
    monkeypatch.undo()
    time.tzset()
    assert stamps == ["Sep  4 00:00:00", "Sep 21 14:13:20"]
