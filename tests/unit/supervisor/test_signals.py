"""What the supervisor does on a signal, as far as it can be told without a daemon."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.supervisor import supervisor
from fastinetd.supervisor.signals import handle_signals, postpone_signals
from fastinetd.system.loop import Loop
from support.core import reap, running
from support.proc import PATIENCE

FAULTS = [signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS]
NO_NEWS = [signal.SIGALRM, signal.SIGCHLD, signal.SIGCONT, signal.SIGPIPE, signal.SIGTSTP, signal.SIGTTIN,
           signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH, signal.SIGXFSZ]  # fmt: skip
"""What the kernel, a terminal or the process itself sends in the ordinary course of things."""


class Heard:
    """What a child process says, line by line."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def say(self, text: str) -> None:
        os.write(self.writer, f"{text}\n".encode())

    def line(self) -> str:
        """The next line; "" when none comes."""
        text = b""
        while not text.endswith(b"\n"):
            if not select.select([self.reader], [], [], PATIENCE)[0]:
                break
            text += os.read(self.reader, 1)
        return text.decode().strip()


@pytest.fixture
def heard() -> Iterator[Heard]:
    made = Heard()
    yield made
    os.close(made.reader)
    os.close(made.writer)


@pytest.fixture
def daemon(heard: Heard) -> Callable[[], None]:
    """What a supervisor does with signals, and says of them; `heard` has "ready" first."""

    def main() -> None:
        faulthandler.disable()  # pytest's
        os.setpgid(0, 0)  # as a job of a shell: the kernel stops no process of a group that nobody could continue
        loop = Loop(heard.say)
        meanings = {number: lambda number=number: heard.say(number.name) for number in (signal.SIGHUP, signal.SIGTERM)}
        messages: Any = SimpleNamespace(warning=heard.say)
        handle_signals(loop, {**meanings, signal.SIGCHLD: lambda: None}, messages)  # type: ignore[dict-item]
        heard.say("ready")
        loop.run()

    return main


@pytest.mark.parametrize("number", FAULTS)
def test_a_fault_ends_it(daemon: Callable[[], None], heard: Heard, number: int) -> None:
    """A handler would return to the instruction at fault for ever; whoever watches the daemon starts another one."""
    with running(daemon) as pid:
        assert heard.line() == "ready"
        os.kill(pid, number)
        assert reap(pid) == -number


def test_only_strange_signals_are_news(daemon: Callable[[], None], heard: Heard) -> None:
    """Whether it is run at a terminal, loses a client or closes a stranger's socket: each comes without a message."""
    with running(daemon) as pid:
        assert heard.line() == "ready"
        for number in (*NO_NEWS, signal.SIGHUP):
            os.kill(pid, number)
        assert heard.line() == "SIGHUP"
        os.kill(pid, signal.SIGIO)
        assert heard.line() == "SIGIO has no meaning here and is ignored"
        for number in (signal.SIGIO, signal.SIGPWR):  # each is news once
            os.kill(pid, number)
        assert heard.line() == "SIGPWR has no meaning here and is ignored"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_start_can_be_ended(heard: Heard, number: int, masked: bool) -> None:
    """Though it hangs at a file or a resolver, and whatever the process that started the daemon has blocked."""

    def main() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # it is an exception otherwise
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals() if masked else ())
        postpone_signals()
        heard.say("starts")
        signal.pause()

    with running(main) as pid:
        assert heard.line() == "starts"
        os.kill(pid, number)
        assert reap(pid) == -number


def test_a_reload_during_the_start_is_done_after_it(daemon: Callable[[], None], heard: Heard) -> None:
    """The file may have been read already. What means nothing does not end the start."""
    begin, beginning = os.pipe()

    def main() -> None:
        postpone_signals()
        heard.say("starts")
        os.read(begin, 1)
        daemon()

    with running(main) as pid:
        assert heard.line() == "starts"
        for number in (signal.SIGHUP, signal.SIGIO):
            os.kill(pid, number)
        os.write(beginning, b"x")
        assert [heard.line(), heard.line()] == ["ready", "SIGHUP"]
        assert heard.line() == "SIGIO has no meaning here and is ignored"
    os.close(begin)
    os.close(beginning)


def test_abrt_compares_the_counts_and_starts_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """With -cc each signal would otherwise add another series of checks."""
    done: list[str] = []
    monkeypatch.setattr(supervisor, "check_counts", lambda *_: done.append("compared"))
    loop = SimpleNamespace(later=lambda *_: done.append("timer"))
    each = SimpleNamespace(board=None, messages=None, loop=loop, options=SimpleNamespace(check_every=1.0))
    supervisor.Supervisor._check(each)  # type: ignore[arg-type]
    assert done == ["compared"]
