"""How a process is started, for all compiled modules that start some."""

from fastinetd.core.program cimport spawn_plan
from fastinetd.system.linux cimport i32


cdef extern from "core/spawn_plan.h" nogil:
    cpdef enum SpawnStep "spawn_step":
        """What a start consists of, as far as it may fail: system calls."""
        STEP_UNKNOWN
        STEP_FCNTL
        STEP_CLONE
        STEP_TIMER_CREATE
        STEP_TIMER_SETTIME
        STEP_CLOSE_RANGE
        STEP_SETSID
        STEP_DUP3
        STEP_PRLIMIT64
        STEP_SETPRIORITY
        STEP_SETGROUPS
        STEP_RT_SIGPROCMASK
        STEP_PRCTL
        STEP_SETRESGID
        STEP_SETRESUID
        STEP_CAPSET
        STEP_EXECVE
    struct spawn_call:
        const spawn_plan *plan
        char **envp
        int fd
        int errors
        const int *further
        int further_count
        int further_at
        int reset_signals
        int tied
        int guard
        int error
        int step


cdef int spawn_server(spawn_call *call, i32 *pid) noexcept nogil
