"""The page /-/ready: what is ready when all listens, when one does not, and what one alone is asked for."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from fastinetd.core.board import Board
from fastinetd.monitor.metrics import ServiceInfo
from fastinetd.monitor.readiness import Readiness

SERVICES = [
    ServiceInfo(0, "web", True, endpoints=("0.0.0.0:80",)),
    ServiceInfo(1, "mail & news", True, endpoints=("0.0.0.0:25", "[::]:25")),
    ServiceInfo(2, "web", False, endpoints=("0.0.0.0:80/udp",)),
]


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(4, 8, 1)
    for _ in SERVICES:
        made.row_claim()
    status(made, True)
    yield made
    os.close(made.fd)


def status(board: Board, ready: bool) -> None:
    board.set_status(supervisor=1, descriptors=1, ready=ready, reload_ok=True, reload_time=0, generation=1)


def ask(board: Board, query: str = "", unserved: tuple[tuple[str, str], ...] = ()) -> tuple[int, list[str]]:
    answer = Readiness(board, SERVICES, unserved).answer(query)
    return answer.status, answer.body.decode().splitlines()


def test_all_listen(board: Board) -> None:
    for query in ("", "service=web", "service=mail+%26%20news", "service=web&service=mail%20%26+news"):
        assert ask(board, query) == (200, ["ready"])


def test_one_does_not(board: Board) -> None:
    board.row_hears(1, 1, errno.EADDRINUSE)
    why = "mail & news: cannot listen on [::]:25: Address already in use (errno = EADDRINUSE)"
    assert ask(board) == (503, ["not ready", why])
    assert ask(board, "service=mail%20%26%20news") == (503, ["not ready", why])
    assert ask(board, "service=web") == (200, ["ready"])
    board.row_hears(1)
    assert ask(board) == (200, ["ready"])


def test_all_services_of_an_id(board: Board) -> None:
    board.row_hears(2, 0, 0)
    assert ask(board, "service=web") == (503, ["not ready", "web: 0.0.0.0:80/udp is about to be opened"])


def test_what_could_not_be_started(board: Board) -> None:
    unserved = (("bad", "there is no user 'x'"),)
    assert ask(board, "", unserved) == (503, ["not ready", "bad: there is no user 'x'"])
    assert ask(board, "service=bad", unserved)[0] == 503
    assert ask(board, "service=web", unserved)[0] == 200


@pytest.mark.parametrize(("query", "status"), [
    ("service=none", 404), ("service=", 404), ("service=web&service=none", 404), ("servce=web", 400), ("web", 400),
    ("service=web&x=1", 400), ("service=%ff", 400), ("&&", 400),
])  # fmt: skip
def test_what_is_not_understood_is_not_ready(board: Board, query: str, status: int) -> None:
    assert ask(board, query)[0] == status


def test_starting_or_stopping(board: Board) -> None:
    status(board, False)
    assert ask(board)[0] == 503
    assert ask(board, "service=web")[0] == 503
