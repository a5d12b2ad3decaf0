"""Into the background or not, and the descriptors a daemon begins with."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from fastinetd.cli import background
from fastinetd.cli.background import Launch, must_stay, prepare_descriptors
from support.core import fork, reap


@pytest.mark.parametrize(
    ("environ", "stays"),
    [
        ({}, False), ({"NOTIFY_SOCKET": "/run/x"}, True), ({"INVOCATION_ID": "1", "JOURNAL_STREAM": "8:9"}, False),
        ({"container": "podman"}, False),
    ],
)  # fmt: skip
def test_must_stay(environ: Mapping[str, str], stays: bool) -> None:
    """A manager that waits for word, and nothing else: a unit of Type=forking waits for the command's end."""
    assert must_stay(environ) is stays


def test_must_stay_as_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert must_stay({})


def test_need_not_stay_because_the_parent_is_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is executed in a container from outside has no parent there."""
    monkeypatch.setattr(os, "getppid", lambda: 0)
    assert not must_stay({})


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


@pytest.mark.parametrize("taken", [(0,), (2,), (0, 1, 2)])
def test_a_librarys_file_in_a_standard_descriptors_place(taken: tuple[int, ...]) -> None:
    """What is close-on-exec was not inherited: libffi 3.5 opens its own file, and keeps it."""

    def main() -> None:
        own = os.open(__file__, os.O_RDONLY)
        for number in range(3):
            os.dup2(own, number, inheritable=number not in taken)
        prepare_descriptors()
        for number in range(3):
            to = os.devnull if number in taken else __file__
            assert os.readlink(f"/proc/self/fd/{number}") == to  # noqa: PTH115
            assert os.get_inheritable(number)

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

    def run(self, daemon: str) -> tuple[int, str, str]:
        """Exit status and standard error of the command; what the daemon says of itself."""
        reader, writer = os.pipe()
        from_command, standard_error = os.pipe()

        def main() -> None:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            launch = Launch(background=True)
            if launch.parent:
                os._exit(launch.wait())
            os.write(launch.errors, b"cannot\n")
            if daemon == "ready":
                launch.ready()
                launch.failed(9)  # too late to be heard
                os.write(launch.errors, b"nobody must be told this\n")
            elif daemon == "failed":
                launch.failed(5)
            else:
                os._exit(0)
            standard = {str(Path(f"/proc/self/fd/{number}").readlink()) for number in (0, 1, 2)}
            os.write(writer, f"{os.getsid(0) == os.getpid()} {standard} {os.get_inheritable(launch.errors)}".encode())

        status = reap(fork(main))
        texts = []
        for mine, theirs in ((reader, writer), (from_command, standard_error)):
            os.close(theirs)
            with os.fdopen(mine, "rb") as pipe:
                texts.append(pipe.read().decode())
        return status, texts[1], texts[0]

    def test_ready(self) -> None:
        """The command ends with 0; the daemon has a session of its own and talks to nobody."""
        assert self.run("ready") == (0, "cannot\n", "True {'/dev/null'} False")

    def test_failed(self) -> None:
        """Its errors have reached the launcher, though its standard error was given up before."""
        assert self.run("failed") == (5, "cannot\n", "True {'/dev/null'} False")

    def test_died(self) -> None:
        assert self.run("died") == (1, "cannot\n", "")


def test_an_interrupted_command_takes_its_daemon_with_it() -> None:
    """Control-C at a start that takes long: nothing is left of it, and nothing is said of Python."""
    (begun, begins), (said, says) = os.pipe(), os.pipe()

    def main() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(says, 2)
        launch = Launch(background=True)
        if launch.parent:
            os._exit(launch.wait())
        try:
            os.write(begins, b".")
            signal.pause()
        except KeyboardInterrupt:
            os.write(says, b"given up")
            os._exit(0)

    command = fork(main)
    assert os.read(begun, 1) == b"."
    os.kill(command, signal.SIGINT)
    _, status = os.waitpid(command, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGINT
    for end in (begins, says):
        os.close(end)
    assert os.read(begun, 1) == b""  # nobody has it any more
    assert os.read(said, 1000) == b"given up"
    for end in (begun, said):
        os.close(end)


@pytest.mark.parametrize(("unit", "then"), [("", "0"), ("1", "300")])
def test_oom_score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unit: str, then: str) -> None:
    """A shell's is not the daemon's; what a unit sets is meant for it."""
    score = tmp_path / "oom_score_adj"
    score.write_text("300")
    monkeypatch.setattr(background, "_OOM_SCORE", score)
    if unit:
        monkeypatch.setenv("INVOCATION_ID", unit)
    else:
        monkeypatch.delenv("INVOCATION_ID", raising=False)

    def main() -> None:
        launch = Launch(background=True)
        if launch.parent:
            os._exit(launch.wait())
        launch.ready()

    assert reap(fork(main)) == 0
    assert score.read_text() == then
