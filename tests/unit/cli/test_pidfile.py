"""The pid file: one daemon has it, and whatever else lies there is left or replaced, never written through."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from fastinetd.cli.options import Refusal
from fastinetd.cli.pidfile import PidFile
from support.core import fork, reap


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pid"


def elsewhere(path: Path) -> str:
    """What another process is told that wants the same path; "" if it gets it."""
    reader, writer = os.pipe()

    def main() -> None:
        try:
            PidFile(path).write()
        except Refusal as refusal:
            os.write(writer, str(refusal).encode())

    pid = fork(main)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert reap(pid) == 0
    return said


def test_written_when_the_daemon_serves(path: Path) -> None:
    path.write_text("something longer than a process id\n")
    with PidFile(path) as file:
        assert path.read_bytes() == b""
        file.write()
        assert path.read_text() == f"{os.getpid()}\n"
        mask = os.umask(0)
        os.umask(mask)
        assert path.stat().st_mode & 0o777 == 0o644 & ~mask
    assert not path.exists()


def test_without_one() -> None:
    with PidFile(None) as file:
        file.write()
        file.release()


def test_a_second_daemon_is_refused(path: Path) -> None:
    with PidFile(path) as file:
        said = elsewhere(path)
        assert said.startswith(f"another daemon, process {os.getpid()}, has the pid file {path}; end it first")
        file.write()
        assert f"another daemon, process {os.getpid()}, has the pid file {path}" in elsewhere(path)
        assert path.read_text() == f"{os.getpid()}\n"


def test_that_of_a_dead_daemon_is_replaced(path: Path) -> None:
    assert elsewhere(path) == ""
    assert path.read_text() != ""
    with PidFile(path):
        assert path.read_text() == ""


def test_a_fork_does_not_keep_it(path: Path) -> None:
    """Roles outlive the supervisor for a moment; the next one need not wait for them."""
    reader, writer = os.pipe()

    def main() -> None:
        PidFile(path).write()
        if not os.fork():
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)

    pid = fork(main)
    os.close(reader)
    assert reap(pid) == 0
    with PidFile(path):
        os.close(writer)


def test_the_next_daemons_file_stays(path: Path) -> None:
    """One that waits for the end of its servers has given the place up: an init script may start the next."""
    with PidFile(path) as file:
        file.write()
        file.release()
        assert list(path.parent.iterdir()) == []
        assert elsewhere(path) == ""
        theirs = path.read_text()
    assert path.read_text() == theirs != f"{os.getpid()}\n"


def test_never_through_a_link(path: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    path.symlink_to(precious)
    with PidFile(path) as file:
        file.write()
        assert precious.read_text() == "x"
        assert not path.is_symlink()


def test_no_stranger_can_lock_it(root: None, folder: Path) -> None:
    """Who may read the pid file waits for a lock on all he can open; the daemon that follows on a crash starts all the
    same, and what keeps a second one away is nothing that he can open."""
    path = folder / "pid"
    (daemon_says, says), (stranger_says, stranger_writes) = os.pipe(), os.pipe()

    def crashing() -> None:
        PidFile(path).write()
        os.write(says, b".")
        signal.pause()

    def stranger() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        opened = []
        for each in sorted(folder.iterdir()):
            with suppress(PermissionError):
                opened.append(each.open("rb"))
        os.write(stranger_writes, " ".join(Path(each.name).name for each in opened).encode())
        for file in opened:
            fcntl.lockf(file, fcntl.LOCK_SH)
        os.write(stranger_writes, b"locked")
        signal.pause()

    daemon = fork(crashing)
    assert os.read(daemon_says, 1) == b"."
    lurking = fork(stranger)
    said = os.read(stranger_says, 100)
    os.kill(daemon, signal.SIGKILL)
    reap(daemon)
    try:
        while not said.endswith(b"locked"):
            said += os.read(stranger_says, 100)
        assert said == b"pidlocked"
        with PidFile(path) as file:
            file.write()
            assert f"another daemon, process {os.getpid()}, has the pid file" in elsewhere(path)
    finally:
        os.kill(lurking, signal.SIGKILL)
        reap(lurking)
        for descriptor in (daemon_says, says, stranger_says, stranger_writes):
            os.close(descriptor)


@pytest.mark.parametrize("kind", ["readable", "link", "pipe", "folder"])
def test_a_lock_that_others_can_open_is_none(path: Path, kind: str) -> None:
    """It is replaced; what a link leads to is left alone."""
    lock = path.with_name("pid.lock")
    if kind == "readable":
        lock.touch(0o644)
    elif kind == "link":
        lock.symlink_to(path.with_name("precious"))
    elif kind == "pipe":
        os.mkfifo(lock, 0o600)
    else:
        lock.mkdir()
        with pytest.raises(Refusal, match="Is a directory; choose another place with -pidfile"):
            PidFile(path)
        return
    with PidFile(path):
        assert lock.stat().st_mode & 0o777 == 0o600 and lock.is_file() and not lock.is_symlink()
        assert "has the pid file" in elsewhere(path)
    assert list(path.parent.iterdir()) == []


def test_impossible(tmp_path: Path) -> None:
    for place, why in (("no/pid", "No such file or directory"), ("", "Is a directory")):
        with pytest.raises(Refusal, match=f"{why}; choose another place with -pidfile"):
            PidFile(tmp_path / place)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_left_alone(path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        request.getfixturevalue("root")
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    before = path.lstat()
    with pytest.raises(Refusal, match="is left as it is; choose another place with -pidfile"):
        PidFile(path)
    assert path.lstat() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("link", [False, True])
def test_the_null_device_is_no_pid_file(root: None, path: Path, link: bool) -> None:
    """A node for it, for one that is lost is not the test's alone."""
    node = path.with_name("null")
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    if link:
        path.symlink_to(node)
    there = sorted(path.parent.iterdir())
    with PidFile(path if link else node) as file:
        file.write()
        assert sorted(path.parent.iterdir()) == there
    assert sorted(path.parent.iterdir()) == there
    assert stat.S_ISCHR(node.lstat().st_mode)


def test_a_second_name_of_another_file_is_not_locked_nor_written(path: Path) -> None:
    own = path.with_name("own")
    own.write_text("mine")
    own.chmod(0o600)
    path.with_name("pid.lock").hardlink_to(own)
    with PidFile(path):
        assert own.read_text() == "mine"
        assert not path.with_name("pid.lock").samefile(own)


def test_the_lock_of_a_daemon_that_was_quicker_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two begin at once beside a lock that others could open: the second finds the first one's in its place."""
    lock = path.with_name(f"{path.name}.lock")
    lock.touch()
    lock.chmod(0o666)
    inodes: list[int] = []
    opened = os.open

    def slowly(name: str | Path, flags: int, mode: int = 0o777) -> int:
        descriptor = opened(name, flags, mode)
        if str(name) == str(lock) and not inodes:
            monkeypatch.undo()
            lock.rename(path.with_name("as it was"))
            lock.touch(0o600)
            inodes.append(lock.stat().st_ino)
        return descriptor

    monkeypatch.setattr(os, "open", slowly)
    with PidFile(path):
        inodes.append(lock.stat().st_ino)
    assert inodes[0] == inodes[1]


def test_a_lock_that_is_anothers_by_now_stays_at_the_end(path: Path) -> None:
    """An administrator has removed ours, and another daemon runs."""
    lock = path.with_name(f"{path.name}.lock")
    with PidFile(path):
        lock.rename(path.with_name("as it was"))
        lock.touch(0o600)
    assert lock.exists()


def test_a_lock_of_another_user_is_none(root: None, folder: Path) -> None:
    """He could lock what he owns, whatever its mode is."""
    path, lock = folder / "pid", folder / "pid.lock"
    lock.touch(0o600)
    os.chown(lock, 65534, 65534)
    with PidFile(path):
        assert lock.stat().st_uid == os.geteuid()


def test_what_is_put_in_its_place_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody puts a link where the daemon has just removed a stale file."""
    precious = path.with_name("precious")
    precious.write_text("x")
    removed = Path.unlink

    def swapped(self: Path, missing_ok: bool = False) -> None:
        removed(self, missing_ok)
        if self == path:
            path.symlink_to(precious)

    path.touch()
    monkeypatch.setattr(Path, "unlink", swapped)
    with pytest.raises(Refusal, match="File exists"):
        PidFile(path)
    assert precious.read_text() == "x"


def test_a_file_that_is_anothers_by_now_stays_at_the_end(path: Path) -> None:
    """An administrator has removed both files, and another daemon has the place."""
    with PidFile(path) as file:
        file.write()
        for each in (path, path.with_name("pid.lock")):
            each.rename(each.with_name(f"{each.name} before"))
        path.write_text("4711\n")
    assert path.read_text() == "4711\n"
