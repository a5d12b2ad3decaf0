"""The acceptor."""

from collections.abc import Sequence

from typing_extensions import disjoint_base

from fastinetd.core.board import Board
from fastinetd.core.program import Program
from fastinetd.core.reception import Reception

RENEWAL: bytes

@disjoint_base
class Acceptor(Reception):
    def __init__(
        self, board: Board, section: int, listeners: Sequence[tuple[int, Program]], control: int, doorman: int,
        acceptors: int = 1,
    ) -> None: ...
