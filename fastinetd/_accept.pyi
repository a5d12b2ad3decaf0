"""The acceptor, and the supervisor's hand in starting and ending servers."""

from collections.abc import Sequence

from typing_extensions import disjoint_base

from fastinetd._admit import Accounts
from fastinetd._board import Board, Verdict
from fastinetd._program import Program
from fastinetd._reception import Reception

@disjoint_base
class Acceptor(Reception):
    def __init__(
        self, board: Board, section: int, listeners: Sequence[tuple[int, Program]], control: int, doorman: int,
        acceptors: int = 1,
    ) -> None: ...

class Keeper(Accounts):
    def start(
        self, program: Program, fd: int, address: bytes = b"", port: int = 0, vouched: bool = False
    ) -> tuple[Verdict, int, int]: ...
    def hold(self, row: int) -> None: ...
    def refuse(self, program: Program, verdict: Verdict, address: bytes = b"", port: int = 0) -> None: ...
    def recognise(self, program: Program, slot: int) -> None: ...
    def end(self, slot: int) -> bool: ...

def spawn(program: Program, fd: int) -> int: ...
def probe() -> bool: ...
def default_signals(first: int = 1, last: int = 64) -> None: ...
