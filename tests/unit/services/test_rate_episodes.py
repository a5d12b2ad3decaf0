"""Episodes of clients that wait for a rate: one message at the beginning, one at the end with what it came to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastinetd.config.model import Place, Rate, Service
from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.logs.lines import Level
from fastinetd.services import rate_episodes as episodes
from fastinetd.services.rate_episodes import Episodes, began_text
from support.core import HOUR, open_row, program, set_limits


class Episode:
    """One service with an `Episodes`, whose looks are made when the test says so."""

    def __init__(self) -> None:
        self.board = Board.create(2, 8, 1)
        self.board.wake = os.eventfd(0)
        self.keeper = Keeper(self.board, self.board.section_claim(os.getpid()))
        self.row = open_row(self.board, rate_count=1, rate_period=HOUR)
        self.said: list[tuple[Level, str]] = []
        self.due: list[Any] = []
        planned: Any = SimpleNamespace(service=Service("web", "web", Place("x", 1), rate=Rate(1)), id="web")
        self.by_row: Any = {self.row: SimpleNamespace(planned=planned)}
        services: Any = SimpleNamespace(by_row=self.by_row)
        messages: Any = SimpleNamespace(log=lambda level, text: self.said.append((level, text)))
        loop: Any = SimpleNamespace(later=self.later)
        self.episodes = Episodes(self.board, loop, services, messages)

    def later(self, seconds: float, callback: Any) -> None:
        assert seconds == episodes.EPISODE_ENDS_AFTER
        self.due.append(callback)

    def look(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()

    def wait(self) -> None:
        """A client waits."""
        self.keeper.begin_rate_wait(self.row)
        self.episodes.client_waits(self.row)

    def serve(self) -> None:
        """It is served: the rate allows it."""
        set_limits(self.board, self.row, rate_count=100, rate_period=HOUR)
        with Path(os.devnull).open() as nothing:
            _, slot, pid = self.keeper.start(program(self.row, "/bin/true"), nothing.fileno())
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert self.keeper.end(slot)


@pytest.fixture
def episode() -> Iterator[Episode]:
    made = Episode()
    yield made
    for descriptor in (made.board.wake, made.board.fd):
        os.close(descriptor)


def test_two_messages(episode: Episode) -> None:
    episode.wait()
    ((level, text),) = episode.said
    assert level is Level.WARNING
    assert text.startswith("service web: its rate of starts of 1 in 1 s, the default, is used up, clients wait")
    episode.look()  # one waits still
    episode.wait()
    assert len(episode.said) == len(episode.due) == 1
    episode.serve()
    episode.look()  # some waited since the last look
    assert len(episode.said) == 1
    episode.look()
    level, text = episode.said[1]
    assert level is Level.NOTICE
    assert text.startswith("service web: nobody waits for its rate now; 1 client did, in 0.")
    assert episode.due == []


def test_the_next_one_counts_from_there(episode: Episode) -> None:
    for _ in range(2):
        episode.wait()
        episode.serve()
        for _ in range(2):
            episode.look()
    assert [text.partition("; ")[2][:13] for _, text in episode.said[1::2]] == ["1 client did,"] * 2


def test_the_service_is_removed(episode: Episode) -> None:
    episode.wait()
    episode.by_row.clear()
    episode.look()
    episode.episodes.client_waits(episode.row)
    assert len(episode.said) == 1
    assert episode.due == []


def test_what_is_named() -> None:
    web = Service("web", "web", Place("x", 1), rate=Rate(5, 60.0), places={"cps": Place("x", 2)})
    assert "of 5 in 60 s is used up" in began_text(web)
    assert "a higher number after nowait" in began_text(web)
