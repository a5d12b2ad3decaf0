"""The reception: what acceptor and relay have in common."""

from collections.abc import Sequence

from typing_extensions import disjoint_base

from fastinetd.core.board import Board
from fastinetd.core.program import Program

RETIREMENT: bytes

@disjoint_base
class Reception:
    def __init__(
        self, board: Board, section: int, listeners: Sequence[tuple[int, Program]], control: int, doorman: int
    ) -> None: ...
    def run(self) -> None: ...
