"""Log files on disks that fill up, under names that come and go: no line is lost in silence, none runs into
another.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinetd.logs.file_sink import FileSink
from fastinetd.logs.lines import Level
from fastinetd.logs.sink import ENTRIES_KEPT, ENTRIES_PER_WRITE, LONGEST_PAUSE, REPORTS_APART
from support.logs import Clock, Reports


@pytest.fixture
def sink(tmp_path: Path, clock: Clock, reports: Reports) -> Iterator[FileSink]:
    made = FileSink(str(tmp_path / "x.log"), clock, lambda level, text: reports.append((level, text)), note)
    yield made
    made.close()


def note(count: int) -> str:
    return f"{count} lost\n"


def later(sink: FileSink, clock: Clock) -> None:
    """Let the longest pause pass and write everything that can be written."""
    clock.now += LONGEST_PAUSE
    while sink.flush() == 0.0:
        pass


class Disk:
    """Stands in for os.write: takes as many bytes as it has room for, then reports ENOSPC."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.real = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.room == 0 and data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.real(fd, data[: self.room])
        self.room -= taken
        return taken


def test_a_line_cut_by_a_full_disk_is_completed(
    sink: FileSink, clock: Clock, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, 9)
    sink.put(["first\n", "second\n", "third\n"])
    assert Path(sink.path).read_text() == "first\nsec"
    assert [level for level, _ in reports] == [Level.ERROR]
    disk.room = 2
    later(sink, clock)
    assert Path(sink.path).read_text() == "first\nsecon"
    disk.room = 10**6
    later(sink, clock)
    assert Path(sink.path).read_text() == "first\nsecond\nthird\n"
    assert sink.lost == 0


def test_a_cut_line_is_written_anew_after_somebody_elses(
    sink: FileSink, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, 9)
    sink.put(["first\n", "second\n"])
    with Path(sink.path).open("a") as other:
        other.write("foreign\n")
    disk.room = 10**6
    later(sink, clock)
    assert Path(sink.path).read_text() == "first\nsecforeign\n\nsecond\n"


def test_a_cut_line_is_written_anew_to_another_file(
    sink: FileSink, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk = Disk(monkeypatch, 9)
    sink.put(["first\n", "second\n"])
    Path(sink.path).rename(tmp_path / "old")
    disk.room = 10**6
    sink.reopen()
    assert Path(sink.path).read_text() == "second\n"


def test_a_real_limit_of_the_kernel(sink: FileSink, clock: Clock) -> None:
    """RLIMIT_FSIZE gives a short write, then EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    lines = [f"line {i:04d}\n" for i in range(100)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (505, before[1]))
    try:
        sink.put(lines)
        cut = Path(sink.path).read_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    later(sink, clock)
    assert len(cut) == 505
    assert Path(sink.path).read_text() == "".join(lines)


@settings(deadline=None, max_examples=200)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 5)),
            st.tuples(st.just("room"), st.integers(0, 40)),
            st.tuples(st.just("foreign"), st.just(0)),
            st.tuples(st.just("rotate"), st.just(0)),
        ),
        max_size=30,
    )
)
def test_every_line_arrives_whole_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    folder, clock, number = tmp_path_factory.mktemp("log"), Clock(), 0
    sink = FileSink(str(folder / "x.log"), clock, lambda level, text: None, note)
    files = [folder / "x.log"]
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, 0)
        for kind, amount in [*steps, ("room", 10**6)]:
            if kind == "put":
                sink.put([f"<{number + i}-ä>\n" for i in range(amount)])
                number += amount
            elif kind == "room":
                disk.room += amount
                later(sink, clock)
            elif kind == "foreign":
                fd = os.open(sink.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
                disk.real(fd, b"foreign\n")
                os.close(fd)
            else:
                files.append(folder / f"old{len(files)}")
                if files[0].exists():
                    files[0].rename(files[-1])
                sink.reopen()
        later(sink, clock)
        sink.close()
    text = b"\n".join(file.read_bytes() for file in [*files[1:], files[0]] if file.exists())
    lines = [line for line in text.decode(errors="replace").split("\n") if re.fullmatch(r"<\d+-ä>", line)]
    # A line of which only the end was missing may stand in two files, or on both sides of somebody else's.
    once = [line for line, before in zip(lines, ["", *lines]) if line != before]
    assert once == [f"<{i}-ä>" for i in range(number)]


def test_a_deleted_file_is_made_again(sink: FileSink, clock: Clock) -> None:
    sink.put(["one\n"])
    Path(sink.path).unlink()
    clock.now += 2
    sink.put(["two\n"])
    assert Path(sink.path).read_text() == "two\n"


def test_an_emptied_file_counts_anew(sink: FileSink, clock: Clock) -> None:
    sink.limit(None, 10)
    sink.put(["0123456789\n", "next\n"])
    assert Path(sink.path).read_text() == "0123456789\n"
    os.truncate(sink.path, 0)
    later(sink, clock)
    assert Path(sink.path).read_text() == "next\n"


def test_reopen_keeps_the_old_file_when_the_new_one_cannot_be(sink: FileSink, reports: Reports, tmp_path: Path) -> None:
    sink.put(["one\n"])
    Path(sink.path).rename(tmp_path / "old")
    Path(sink.path).mkdir()
    sink.reopen()
    sink.put(["two\n"])
    assert (tmp_path / "old").read_text() == "one\ntwo\n"
    assert len(reports) == 1 and "cannot open" in reports[0][1] and "errno = 21" in reports[0][1]


def test_reopen_in_a_vanished_folder(tmp_path: Path, clock: Clock, reports: Reports) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(str(folder / "x.log"), clock, lambda level, text: reports.append((level, text)), note)
    sink.put(["one\n"])
    (folder / "x.log").unlink()
    folder.rmdir()
    sink.reopen()
    sink.put(["two\n"])
    assert sink.descriptor() == -1 and len(reports) == 1
    folder.mkdir()
    later(sink, clock)
    assert (folder / "x.log").read_text() == "two\n"
    assert reports[-1][0] is Level.NOTICE
    sink.close()


def test_a_symbolic_link_is_followed(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "link.log").symlink_to(tmp_path / "real.log")
    sink = FileSink(str(tmp_path / "link.log"), clock, lambda level, text: None, note)
    sink.put(["one\n"])
    sink.close()
    assert (tmp_path / "real.log").read_text() == "one\n"


def test_a_fifo_without_a_reader_does_not_block(tmp_path: Path, clock: Clock, reports: Reports) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    sink = FileSink(str(path), clock, lambda level, text: reports.append((level, text)), note)
    sink.put(["one\n"])
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    later(sink, clock)
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)
    sink.close()


def test_the_descriptor_is_not_for_servers(sink: FileSink) -> None:
    sink.open()
    assert not os.get_inheritable(sink.descriptor())
    assert stat.S_ISREG(os.fstat(sink.descriptor()).st_mode)


def test_pauses_grow_and_nothing_is_tried_between(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[float] = []

    def refuse(*_: object) -> int:
        attempts.append(clock.now)
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    sink = FileSink(str(tmp_path / "x"), clock, lambda level, text: None, note)
    sink.put(["one\n"])
    pauses: list[float] = []
    while len(pauses) < 10:
        wait = sink.flush()
        assert wait is not None and wait > 0
        pauses.append(wait)
        sink.put(["more\n"])
        clock.now += wait
    assert len(attempts) == len(pauses)
    assert pauses[0] == pytest.approx(0.05) and pauses[-1] == LONGEST_PAUSE
    assert pauses == sorted(pauses)


def test_trouble_that_comes_and_goes_is_no_flood(
    sink: FileSink, clock: Clock, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, 0)
    for _ in range(5):
        disk.room = 0
        sink.put(["x\n"])
        disk.room = 100
        later(sink, clock)
    assert [level for level, _ in reports] == [Level.ERROR, Level.NOTICE]
    clock.now += REPORTS_APART
    disk.room = 0
    sink.put(["x\n"])
    assert [level for level, _ in reports] == [Level.ERROR, Level.NOTICE, Level.ERROR]
    disk.room = 100


def test_catching_up_takes_turns(sink: FileSink, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, 0)
    sink.put(["x\n"] * ENTRIES_KEPT)
    disk.room = 10**6
    clock.now += LONGEST_PAUSE
    assert sink.flush() == 0.0
    assert len(Path(sink.path).read_text()) == 2 * ENTRIES_PER_WRITE
    assert sink.flush() is None


def test_close_counts_what_is_lost(tmp_path: Path, clock: Clock) -> None:
    sink = FileSink("/dev/full", clock, lambda level, text: None, note)
    sink.put(["x\n"] * 3)
    sink.close()
    assert sink.lost == 3 and sink.descriptor() == -1


def test_a_report_that_comes_back_to_its_own_sink(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = FileSink(str(tmp_path / "x"), clock, lambda level, _: own.put([f"{level.name}\n"]), note)
    disk = Disk(monkeypatch, 3)
    own.put(["one\n", "two\n"])
    disk.room = 1000
    later(own, clock)
    assert (tmp_path / "x").read_text() == "one\ntwo\nERROR\nNOTICE\n"
    own.close()
