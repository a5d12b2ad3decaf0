"""Why a server could not be started, in words: which step of the start failed, and what helps.

Theory. A record of a start that failed has an errno, and the step of core/spawn.h that failed with it. Steps before
execve have nothing to do with the program: they set what the service asks for, and the daemon may lack the right to.
"""

from __future__ import annotations

import errno

from fastinetd.core.spawn import SpawnStep
from fastinetd.logs.lines import error_text

FORK_REMEDIES = {
    errno.EAGAIN: "; allow more processes, and signals that may be pending (ulimit -u and -i, TasksMax)",
    errno.ENOMEM: "; allow more memory, or fewer servers (instances)",
}
"""What helps, by errno, where there was no process to be had (clone(2)), rather than no program."""

_MISSING = "; `fastinetd --check` says whether the program, its interpreter or a folder is meant, and for whom"
_EXEC_REMEDIES = dict.fromkeys((errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ELOOP), _MISSING) | {
    errno.ETXTBSY: "; somebody writes to the program or its interpreter: install a new one by rename(2), mv does",
}

_STEP_REMEDIES = {
    SpawnStep.STEP_FCNTL: "; allow more open files (ulimit -n)",
    SpawnStep.STEP_TIMER_CREATE: "; allow more signals that may be pending (ulimit -i)",
    SpawnStep.STEP_DUP3: "; allow more open files (rlimit_files, ulimit -n)",
    SpawnStep.STEP_PRLIMIT64: "; allow the daemon CAP_SYS_RESOURCE, or write smaller rlimit_ attributes; if its own "
                              "limits were lowered meanwhile (prlimit), start it again",
    SpawnStep.STEP_SETPRIORITY: "; allow the daemon CAP_SYS_NICE, or write another nice",
    SpawnStep.STEP_SETGROUPS: "; allow the daemon CAP_SETGID, and setgroups in its user namespace",
    SpawnStep.STEP_SETRESGID: "; allow the daemon CAP_SETGID, and the group in its user namespace",
    SpawnStep.STEP_SETRESUID: "; allow the daemon CAP_SETUID, and the user in its user namespace",
}

_BEFORE_EXEC = frozenset(SpawnStep) - {SpawnStep.STEP_UNKNOWN, SpawnStep.STEP_CLONE, SpawnStep.STEP_EXECVE}
"""Steps that fail for whatever program."""


def start_failure(server: str, step: int, number: int) -> str:
    """The step of a start that failed, why, and what helps: `fcntl failed: Too many open files (errno = 24); ...`.
    `step` is a SpawnStep's number; one that does not exist counts as unknown. `number` is the errno."""
    match step:
        case SpawnStep.STEP_UNKNOWN | SpawnStep.STEP_CLONE | SpawnStep.STEP_EXECVE if number in FORK_REMEDIES:
            return f"fork failed: {error_text(number)}{FORK_REMEDIES[number]}"
        case SpawnStep.STEP_CLONE:
            return f"fork failed: {error_text(number)}"
        case _ if step in _BEFORE_EXEC:
            what = SpawnStep(step).name.removeprefix("STEP_").lower()
            return f"{what} failed: {error_text(number)}{_STEP_REMEDIES.get(SpawnStep(step), '')}"
    return f"execv( {server} ) failed: {error_text(number)}{_EXEC_REMEDIES.get(number, '')}"

