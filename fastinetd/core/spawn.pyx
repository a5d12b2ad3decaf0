"""Starts of processes without any accounting, and the signals that programs inherit.

spawn.h is compiled here and nowhere else: with a stack for the child, of which a process needs one.
"""

from fastinetd.core.client cimport Client, make_client
from fastinetd.core.program cimport Program, environment_for_client
from fastinetd.system.linux cimport i32

import os

from fastinetd.core.exec_context import ExecContext


cdef extern from "core/spawn.h" nogil:
    int spawn_clone(spawn_call *call, i32 *pid) noexcept
    int spawn_posix(spawn_call *call, i32 *pid) noexcept

cdef extern from "system/processes.h" nogil:
    void default_signals_between(int first, int last) noexcept
    int disregard_signal(int number) noexcept


cdef int spawn_server(spawn_call *call, i32 *pid) noexcept nogil:
    """Start a program in the way that its plan asks for. Returns 0, with its pid in *pid, or an errno, with the
    SpawnStep that failed in call.step."""
    return spawn_posix(call, pid) if call.plan.use_posix_spawn else spawn_clone(call, pid)


def spawn_program(Program program, int fd) -> int:
    """Start a program on `fd` (borrowed); returns its pid. For `clone_is_allowed`, and for benchmarks and tests."""
    cdef spawn_call call
    cdef Client client
    cdef i32 pid = 0
    make_client(&client, fd, b"", 0)
    call.plan = &program.target.spawn
    call.envp = environment_for_client(&program.target, &client)
    call.fd = fd
    call.errors, call.further_count = -1, 0
    call.reset_signals, call.tied, call.guard = True, False, -1
    cdef int number = spawn_server(&call, &pid)
    if number:
        raise OSError(number, os.strerror(number))
    return pid


def clone_is_allowed() -> bool:
    """Whether this kernel and its policies allow the start by clone (some containers do not)."""
    cdef Program program = Program(0, ExecContext(b"/nonexistent", (b"x",)))
    cdef int fd = os.open(os.devnull, os.O_RDWR)
    try:
        spawn_program(program, fd)
    except OSError as problem:
        return problem.errno == 2  # the child ran and did not find the program: the way there is free
    finally:
        os.close(fd)
    return True


def default_signals(int first=1, int last=64) -> None:
    """Give signals the disposition of a fresh process, those that libc hides (32 and 33) included: whoever started the
    daemon may have ignored them, and servers would inherit that."""
    default_signals_between(first, last)


def disregard_signals(numbers) -> None:
    """Let signals do nothing to this process; the programs it executes have them as a fresh process does."""
    for number in numbers:
        disregard_signal(number)
