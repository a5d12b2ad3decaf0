"""Starts of processes without any accounting, and the signals that programs inherit."""

from collections.abc import Iterable
from enum import IntEnum

from fastinetd.core.program import Program

class SpawnStep(IntEnum):
    STEP_UNKNOWN = 0
    STEP_FCNTL = 1
    STEP_CLONE = 2
    STEP_TIMER_CREATE = 3
    STEP_TIMER_SETTIME = 4
    STEP_CLOSE_RANGE = 5
    STEP_SETSID = 6
    STEP_DUP3 = 7
    STEP_PRLIMIT64 = 8
    STEP_SETPRIORITY = 9
    STEP_SETGROUPS = 10
    STEP_RT_SIGPROCMASK = 11
    STEP_PRCTL = 12
    STEP_SETRESGID = 13
    STEP_SETRESUID = 14
    STEP_CAPSET = 15
    STEP_EXECVE = 16

def spawn_program(program: Program, fd: int) -> int: ...
def clone_is_allowed() -> bool: ...
def default_signals(first: int = 1, last: int = 64) -> None: ...
def disregard_signals(numbers: Iterable[int]) -> None: ...
