"""Admission and accounting, as Python has them: a process's ledger."""

from typing_extensions import disjoint_base

from fastinetd.core.board import Board
from fastinetd.core.layout import Verdict
from fastinetd.core.program import Program

@disjoint_base
class Accounts:
    def __init__(self, board: Board, section: int) -> None: ...
    def admit(self, program: Program, address: bytes, port: int = 0) -> tuple[Verdict, int]: ...
    def drop(self, slot: int) -> None: ...
