"""What is said of a start that failed: the step, the errno, what helps."""

from __future__ import annotations

import errno

import pytest

from fastinetd.core.spawn import SpawnStep
from fastinetd.logs.start_failures import start_failure

PROGRAM_STEPS = (SpawnStep.STEP_UNKNOWN, SpawnStep.STEP_CLONE, SpawnStep.STEP_EXECVE)


@pytest.mark.parametrize("step", [SpawnStep.STEP_UNKNOWN, SpawnStep.STEP_EXECVE, 250])
def test_a_program_that_cannot_be_executed(step: int) -> None:
    text = start_failure("/usr/sbin/webd", step, errno.EACCES)
    assert text.startswith("execv( /usr/sbin/webd ) failed: Permission denied (errno = 13); ")
    assert "--check" in text
    assert start_failure("/x", step, errno.E2BIG) == "execv( /x ) failed: Argument list too long (errno = 7)"


@pytest.mark.parametrize("step", PROGRAM_STEPS)
def test_no_process(step: SpawnStep) -> None:
    assert start_failure("/x", step, errno.EAGAIN).startswith("fork failed: Resource temporarily unavailable")
    assert "memory" in start_failure("/x", step, errno.ENOMEM)


def test_clone_is_never_the_program() -> None:
    assert start_failure("/x", SpawnStep.STEP_CLONE, errno.EPERM) == "fork failed: Operation not permitted (errno = 1)"


@pytest.mark.parametrize("step", [step for step in SpawnStep if step not in PROGRAM_STEPS])
def test_a_step_before_the_program(step: SpawnStep) -> None:
    text = start_failure("/usr/sbin/webd", step, errno.EPERM)
    call = step.name.removeprefix("STEP_").lower()
    assert text.startswith(f"{call} failed: Operation not permitted (errno = 1)")
    assert "webd" not in text


@pytest.mark.parametrize(
    ("step", "remedy"),
    [
        (SpawnStep.STEP_SETGROUPS, "CAP_SETGID"),
        (SpawnStep.STEP_SETRESGID, "CAP_SETGID"),
        (SpawnStep.STEP_SETRESUID, "CAP_SETUID"),
        (SpawnStep.STEP_SETPRIORITY, "CAP_SYS_NICE"),
        (SpawnStep.STEP_PRLIMIT64, "CAP_SYS_RESOURCE"),
        (SpawnStep.STEP_DUP3, "rlimit_files"),
    ],
)
def test_what_helps(step: SpawnStep, remedy: str) -> None:
    assert remedy in start_failure("/x", step, errno.EPERM)
