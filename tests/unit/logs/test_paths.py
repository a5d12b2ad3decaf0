"""Names of logs that mean open descriptors, and places where no log can be written."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fastinetd.logs.file_sink import FileSink
from fastinetd.logs.lines import Level
from fastinetd.logs.paths import copy_descriptor, own_descriptor, trouble_with
from support.core import fork, reap


def test_own_descriptor(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/stdout")
    (tmp_path / "loop").symlink_to("loop")
    for path, number in (("/dev/stderr", 2), ("/proc/self/fd/7", 7), (f"/proc/{os.getpid()}/fd/1", 1), (str(link), 1)):
        assert own_descriptor(path) == number
    for path in ("/dev/null", str(tmp_path / "file"), str(tmp_path / "loop"), f"/proc/{os.getppid()}/fd/1"):
        assert own_descriptor(path) is None


def test_what_cannot_be_opened_anew_is_the_open_descriptor(tmp_path: Path) -> None:
    """A socket, as journald's: named directly, by a link, and through /proc/PID of another process."""
    mine, theirs = socket.socketpair()
    link = tmp_path / "link"
    link.symlink_to("/dev/stdout")
    paths = ["/dev/stdout", str(link), f"/proc/{os.getpid()}/fd/{theirs.fileno()}"]

    def main() -> None:
        os.dup2(theirs.fileno(), 1)
        said: list[tuple[Level, str]] = []
        for path in paths:
            sink = FileSink(path, lambda: 0.0, lambda *each: said.append(each), str)
            sink.put([f"{path}\n"])
            sink.close()
        assert said == []

    assert reap(fork(main)) == 0
    assert mine.recv(1000).decode().splitlines() == paths
    assert copy_descriptor(str(tmp_path / "none")) is None
    mine.close()
    theirs.close()


def test_a_full_one_does_not_hold_the_daemon_up() -> None:
    """Its lines wait: the descriptor is blocking, and stays so, for others have it too."""
    mine, theirs = socket.socketpair()

    def main() -> None:
        os.dup2(theirs.fileno(), 1)
        sink = FileSink("/dev/stdout", lambda: 0.0, lambda *_: None, str)
        for _ in range(3000):
            sink.put(["x" * 1000 + "\n"])
        assert os.get_blocking(1)

    assert reap(fork(main)) == 0
    mine.close()
    theirs.close()


def test_trouble(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(tmp_path / "target")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "far").symlink_to(tmp_path / "none" / "log")
    (tmp_path / "round").symlink_to("round")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    for path, why in (
        ("log", ""), ("link", ""), ("none/log", f"{tmp_path}/none: no such file or directory; make the folder"),
        ("shared", "it is a folder; name a file"), ("far", f"no file can be made in {tmp_path}/none; make that folder"),
        ("shared/link", f"it is a link in a folder where everybody may put one, to {tmp_path}/target; choose another"),
        ("round", "too many levels of symbolic links; name a file"), ("socket", "it is a socket; name a file"),
        ("/etc/passwd/log", "not a directory; name a file"),
        ("shared/log", "everybody may put a link in its folder; choose another"), ("/dev/stderr", ""),
        ("/proc/self/fd/5", "descriptor 5 is closed at the start, only 1 and 2 stay"), ("/dev/null", ""),
    ):
        found = trouble_with(os.path.join(tmp_path, path))  # noqa: PTH118
        assert found == why or (why and found.startswith(why)), path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_trouble_of_who_is_not_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert trouble_with(str(tmp_path / "log")).startswith(f"no file can be made in {tmp_path}")


def test_no_log_is_written_to_what_the_daemon_has_open(tmp_path: Path) -> None:
    mine, theirs = socket.socketpair()
    link = tmp_path / "link"
    with mine, theirs:
        link.symlink_to(f"/proc/self/fd/{mine.fileno()}")
        assert copy_descriptor(str(link)) is None
    assert copy_descriptor(f"/proc/self/fd/{10**30}") is None


def tried(path: str) -> str:
    """What is said of a log there, at the first record."""
    said: list[str] = []
    sink = FileSink(path, lambda: 0.0, lambda level, text: said.append(text), str)
    sink.put(["x\n"])
    sink.close()
    return " ".join(said)


def test_descriptors_from_3_on_are_never_written_to(tmp_path: Path) -> None:
    """Also where they could be opened anew: a file or pipe of the daemon's."""
    path = tmp_path / "own"
    with path.open("wb") as file:
        number = file.fileno()
        said = tried(f"/proc/self/fd/{number}")
    assert path.read_bytes() == b""
    assert f"descriptor {number} is closed at the start, only 1 and 2 stay; write /dev/stdout" in said


def test_descriptors_of_another_process(tmp_path: Path) -> None:
    """What can be opened is; of what cannot it is said why, and what helps."""
    mine, theirs = socket.socketpair()
    (ready, is_ready), (ends, end) = os.pipe(), os.pipe()
    with mine, theirs, (tmp_path / "log").open("wb") as file:

        def main() -> None:
            os.close(end)
            os.write(is_ready, b".")
            os.read(ends, 1)

        other = fork(main)
        assert os.read(ready, 1) == b"."
        assert tried(f"/proc/{other}/fd/{file.fileno()}") == ""
        assert (tmp_path / "log").read_bytes() == b"x\n"
        for path, why in (
            (f"/proc/{other}/fd/{theirs.fileno()}", "is a socket, which no other process can open; start"),
            (f"/proc/{other}/fd/9999", "cannot be had: no such file or directory; start the daemon with"),
        ):
            name = f"descriptor {path.rpartition('/')[2]} of process {other} {why}"
            assert name in tried(path)
            assert trouble_with(path).startswith(name)
        for each in (end, ready, is_ready, ends):
            os.close(each)
        assert reap(other) == 0
