"""When nobody has any more what a dead role had open: its control pipe says so."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from fastinetd.system import last_reader
from fastinetd.system.last_reader import call_after_last_reader
from fastinetd.system.loop import Loop
from support.core import close_loop, until


class Kit:
    """A pipe, and how often it was said that it is closed."""

    def __init__(self) -> None:
        self.loop = Loop(pytest.fail)
        self.reader, self.writer = os.pipe()
        self.closed: list[float] = []

    def ask(self, control: int) -> None:
        call_after_last_reader(self.loop, control, lambda: self.closed.append(time.monotonic()))

    def gone(self) -> bool:
        """Whether the writing end was given back."""
        return not os.path.lexists(f"/proc/self/fd/{self.writer}")


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    close_loop(made.loop)


def test_at_once(kit: Kit) -> None:
    os.close(kit.reader)
    kit.ask(kit.writer)
    assert len(kit.closed) == 1
    assert kit.gone()


def test_nobody_knows(kit: Kit) -> None:
    """An abandoned role has no pipe any more."""
    kit.ask(-1)
    assert len(kit.closed) == 1
    os.close(kit.reader)
    os.close(kit.writer)


def test_with_the_last_reader(kit: Kit) -> None:
    other = os.dup(kit.reader)
    kit.ask(kit.writer)
    os.close(kit.reader)
    assert (kit.closed, kit.gone()) == ([], False)
    kit.loop.later(0.0, lambda: os.close(other))
    until(kit.loop, lambda: kit.closed, "it is said")
    assert kit.gone()


def test_a_full_pipe(kit: Kit) -> None:
    """Words that nobody has read change nothing."""
    os.set_blocking(kit.writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(kit.writer, bytes(4096))
    kit.ask(kit.writer)
    assert not kit.closed
    kit.loop.later(0.0, lambda: os.close(kit.reader))
    until(kit.loop, lambda: kit.closed, "it is said")
    assert kit.gone()


def test_not_for_ever(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor twice, when it is closed later."""
    monkeypatch.setattr(last_reader, "CLOSED_WITHIN", 0.05)
    begun = time.monotonic()
    kit.ask(kit.writer)
    until(kit.loop, lambda: kit.closed, "it is said")
    assert kit.closed[0] - begun >= 0.05
    assert kit.gone()
    os.close(kit.reader)
    kit.loop.later(0.0, kit.loop.stop)
    kit.loop.run()
    assert len(kit.closed) == 1
