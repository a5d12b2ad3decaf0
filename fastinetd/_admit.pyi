"""Admission and accounting, for tests, benchmarks and the supervisor."""

from typing_extensions import disjoint_base

from fastinetd._board import Board, Verdict
from fastinetd._program import Program

def address_verdict_of(program: Program, address: bytes, port: int = 0) -> Verdict: ...

@disjoint_base
class Accounts:
    def __init__(self, board: Board, section: int) -> None: ...
    def admit(self, program: Program, address: bytes, port: int = 0) -> tuple[Verdict, int]: ...
    def drop(self, slot: int) -> None: ...
