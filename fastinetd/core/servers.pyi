"""The servers of one acceptor: started by exec, watched, and accounted for when they end."""

from enum import IntEnum

from typing_extensions import disjoint_base

from fastinetd.core.reception import Reception

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

@disjoint_base
class Servers:
    def __init__(self, reception: Reception) -> None: ...
