"""Into the background or not, and the descriptors a daemon begins with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from fastinetd import background
from fastinetd.background import Launch, must_stay, prepare_descriptors
from support.core import fork, reap


@pytest.fixture(autouse=True)
def bare_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No marks of a container, and a parent."""
    monkeypatch.setattr(background, "_CONTAINER_MARKS", ())
    monkeypatch.setattr(os, "getppid", lambda: 77)


@pytest.mark.parametrize(
    ("environ", "stays"),
    [
        ({}, False), ({"NOTIFY_SOCKET": "/run/x"}, True), ({"INVOCATION_ID": "1"}, True),
        ({"container": "podman"}, True),
        ({"PATH": "/bin", "CONTAINER": "x"}, False),
    ],
)  # fmt: skip
def test_must_stay(environ: Mapping[str, str], stays: bool) -> None:
    assert must_stay(environ) is stays


def test_must_stay_as_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert must_stay({})


def test_must_stay_without_a_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 0)
    assert must_stay({})


def test_must_stay_where_a_container_left_its_mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / ".dockerenv"
    monkeypatch.setattr(background, "_CONTAINER_MARKS", (str(mark),))
    assert not must_stay({})
    mark.touch()
    assert must_stay({})


@pytest.mark.parametrize("closed", [(), (0,), (1, 2), (0, 1, 2)])
def test_prepare_descriptors(closed: tuple[int, ...]) -> None:
    def main() -> None:
        for number in closed:
            os.close(number)
        for number in (3, 9, 64, 500):
            os.dup2(os.open(os.devnull, os.O_RDONLY), number)
        prepare_descriptors()
        assert {number for number in range(1024) if is_open(number)} == {0, 1, 2}
        for number in closed:
            assert os.readlink(f"/proc/self/fd/{number}") == os.devnull  # noqa: PTH115

    assert reap(fork(main)) == 0


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class TestLaunch:
    def test_in_the_foreground_nothing_happens(self) -> None:
        before = {*os.listdir("/proc/self/fd")}
        launch = Launch(background=False)
        assert not launch.parent
        launch.ready()
        launch.failed(1)
        assert {*os.listdir("/proc/self/fd")} == before

    def run(self, daemon: str) -> tuple[int, int, str]:
        """Exit status of the command; session and standard output of the daemon."""
        reader, writer = os.pipe()

        def main() -> None:
            launch = Launch(background=True)
            if launch.parent:
                os._exit(launch.wait())
            if daemon == "ready":
                launch.ready()
                launch.failed(9)  # too late to be heard
            elif daemon == "failed":
                launch.failed(5)
            else:
                os._exit(0)
            os.write(writer, f"{os.getsid(0) == os.getpid()} {os.readlink('/proc/self/fd/1')}".encode())  # noqa: PTH115

        status = reap(fork(main))
        os.close(writer)
        said = os.read(reader, 1000).decode()
        os.close(reader)
        return status, said.startswith("True"), said.partition(" ")[2]

    def test_ready(self) -> None:
        """The command ends with 0; the daemon has a session of its own and talks to nobody."""
        assert self.run("ready") == (0, True, os.devnull)

    def test_failed(self) -> None:
        status, own_session, output = self.run("failed")
        assert (status, own_session) == (5, True)
        assert output != os.devnull

    def test_died(self) -> None:
        assert self.run("died")[0] == 1
