"""Which generation serves: another takes over when all of it can be had, and until then nothing changes."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.core.board import Board
from fastinetd.supervisor.duties import Duties
from fastinetd.supervisor.generation import Generation
from fastinetd.supervisor.roles import Role
from fastinetd.supervisor.succession import RETIRING_MOST, Succession
from fastinetd.system.loop import Loop
from support.core import close_loop, until

NOTHING = Duties(
    acceptors=1, programs={"acceptor": [], "relay": []}, tables={}, asks_itself=False, services=[], unserved=[],
    library=-1, metrics=None, reader=-1, version="0",
)  # fmt: skip


class Kit:
    """Generations of one acceptor each, which has nothing to serve."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.lacks: Exception | None = None
        self.unwatched: OSError | None = None
        self.stops_them = False
        self.board = Board.create(1, 8, 16)
        self.board.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.loop = Loop(self.errors.append)
        self.listeners = SimpleNamespace()
        listeners: Any = self.listeners
        parts: Any = self
        self.role_pids: set[int] = set()
        self.left: list[Role] = []
        self.succession = Succession(self.board, self.loop, parts, parts, parts, parts, parts, listeners)

    def error(self, text: str) -> None:
        self.errors.append(text)

    def debug(self, text: str) -> None:
        """Nobody asked to be told more."""

    def duties(self) -> Duties:
        if self.lacks is not None:
            raise self.lacks
        return NOTHING

    # ---- the parts that it works with ----

    def role_forked(self, pid: int) -> None:
        self.role_pids.add(pid)

    def role_reaped(self, pid: int) -> None:
        self.role_pids.remove(pid)

    def generation_serves(self, generation: Generation, retiring: list[Generation]) -> None:
        for pid in generation.roles if self.stops_them else ():
            os.kill(pid, signal.SIGSTOP)
        if self.unwatched is not None:
            raise self.unwatched

    def settle(self, role: Role, status: int) -> None:
        assert role.section is not None
        self.board.section_release(role.section)

    def retired_role_left(self, role: Role, retiring: list[Generation]) -> None:
        self.left.append(role)

    def stop_asking(self) -> None:
        """There is no doorman."""

    def stop_listening(self) -> None:
        """There is no listener."""

    def close(self) -> None:
        self.succession.abandon()
        until(self.loop, lambda: not any(generation.roles for generation in self.succession), self.errors)
        os.close(self.board.wake)
        os.close(self.board.fd)
        close_loop(self.loop)


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    made.succession.replace()
    yield made
    made.close()


def test_the_one_before_leaves_when_another_serves(kit: Kit) -> None:
    before = kit.succession.serving
    kit.succession.replace()
    assert kit.succession.serving is not before
    assert kit.succession.retiring == [before]
    until(kit.loop, lambda: not kit.succession.retiring, kit.errors)
    assert kit.errors == []
    assert [role.title for role in kit.left] == ["acceptor 1"]
    assert kit.succession.serving is not None
    assert kit.role_pids == {*kit.succession.serving.roles}


@pytest.mark.parametrize("lack", [MemoryError(), OSError(errno.EMFILE, os.strerror(errno.EMFILE))])
def test_listeners_that_came_late_are_served_when_there_is_room(kit: Kit, lack: Exception) -> None:
    before = kit.succession.serving
    kit.lacks = lack
    kit.listeners.opened_late()
    assert kit.succession.serving is before
    assert len(kit.errors) == 1
    assert kit.errors[0].startswith("no other roles can be started: ")
    kit.lacks = None
    until(kit.loop, lambda: kit.succession.serving is not before, kit.errors)
    assert len(kit.errors) == 1


def test_what_cannot_be_handed_over_stays_with_who_served(kit: Kit) -> None:
    """The kernel may have no room to watch a socket of the new services: then the old ones are served, and by one."""
    before = kit.succession.serving
    kit.unwatched = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        kit.succession.replace()
    assert kit.succession.serving is before
    assert before is not None
    assert not before.retired
    until(kit.loop, lambda: not kit.succession.retiring, kit.errors)
    assert before.may_start_servers
    assert kit.errors == []


def test_those_that_were_given_up_are_not_kept_for_ever(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops their roles gets no more of them than of those that served."""
    monkeypatch.setattr("fastinetd.supervisor.generation.LEAVE_WITHIN", 0.1)
    kit.unwatched, kit.stops_them = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True
    for _ in range(RETIRING_MOST + 1):
        with pytest.raises(OSError, match="No space left"):
            kit.succession.replace()
    until(kit.loop, lambda: len(kit.succession.retiring) <= RETIRING_MOST, kit.errors)
    for generation in kit.succession.retiring:
        for pid in generation.roles:
            os.kill(pid, signal.SIGKILL)
    until(kit.loop, lambda: not kit.succession.retiring, kit.errors)
