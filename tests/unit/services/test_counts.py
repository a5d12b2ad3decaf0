"""The counts on the Board: found right, or made right."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fastinetd.core.board import Board
from fastinetd.core.program import Program
from fastinetd.services.counts import check_counts
from support.accounts import Accounts
from support.core import open_row, program


class Said:
    """Messages by level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, text: str) -> None:
        self.lines.append(("info", text))

    def warning(self, text: str) -> None:
        self.lines.append(("warning", text))

    def error(self, text: str) -> None:
        self.lines.append(("error", text))


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(1, 8, 3)
    made.section_claim(1)
    yield made
    os.close(made.fd)


@pytest.fixture
def served(board: Board) -> Program:
    return program(open_row(board), "/bin/true")


@pytest.fixture
def said() -> Said:
    return Said()


def admitted(board: Board, served: Program) -> int:
    """The section of a process that has taken a client."""
    section = board.section_claim(1)
    Accounts(board, section).admit(served, bytes([10, 0, 0, 1]))
    return section


def test_right(board: Board, served: Program, said: Said) -> None:
    admitted(board, served)
    check_counts(board, said)  # type: ignore[arg-type]
    assert said.lines == [("info", "Consistency check passed")]
    assert board.live == 1


def test_wrong_is_made_right(board: Board, served: Program, said: Said) -> None:
    board.adopt(admitted(board, served), 0)  # frees the slot and leaves the counts
    check_counts(board, said)  # type: ignore[arg-type]
    assert [level for level, _ in said.lines] == ["error"]
    assert board.consistent()
    check_counts(board, said)  # type: ignore[arg-type]
    assert said.lines[-1] == ("info", "Consistency check passed")
    assert board.live == 0
