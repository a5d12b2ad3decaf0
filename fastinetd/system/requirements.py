"""What the daemon cannot serve without on this machine: rlimits, /proc, and system calls that may be denied.

Theory. Old kernels have not all system calls, and a container or a unit may deny some (seccomp(2)). Without those below
the daemon hangs, or its processes die as fast as others take their places. So each is tried beforehand, in a way that
changes nothing, and what is missing is one line with its remedy, in --check too. What costs only some services
(system/privileges) or a pool is no matter of this file.

Rules of this file: a trial succeeds wherever the call is allowed, whatever else the machine is like.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fastinetd.system import allowances
from fastinetd.system.privileges import ALLOW_CALL, CAPABILITY_VERSION_3
from fastinetd.system.processes import pid_in_proc

CLOSE_RANGE = 436  # the number of close_range(2), on every machine


class _Trial(NamedTuple):
    """A system call, and a function that makes it, which raises OSError when it is denied."""

    name: str
    since: str  # the first Linux that has it
    make: Callable[[], object]


def _call_library(name: str, *arguments: object) -> int:
    """The result of a function of the C library; 0 where an old one has it in a library of its own. Raises OSError."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name, lambda *_: 0)
    result = int(function(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _close_nothing() -> None:
    """close_range(2) of the highest number, which is never open."""
    last = ctypes.c_uint(2**32 - 1)
    _call_library("syscall", ctypes.c_long(CLOSE_RANGE), last, last, ctypes.c_uint(0))


@contextmanager
def _own_pidfd() -> Iterator[int]:
    """A pidfd of this process, for a moment. Raises OSError."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _open_pidfd() -> None:
    """pidfd_open(2) of this process."""
    with _own_pidfd():
        pass


def _signal_nothing() -> None:
    """pidfd_send_signal(2) of no signal to this process."""
    with _own_pidfd() as pidfd:
        signal.pidfd_send_signal(pidfd, 0)


def _make_timer(*, use: bool) -> None:
    """timer_create(2), and with `use` timer_settime(2), of a timer that never runs out."""
    timer = ctypes.c_void_p()
    _call_library("timer_create", ctypes.c_int(1), None, ctypes.byref(timer))  # CLOCK_MONOTONIC
    try:
        if use:
            _call_library("timer_settime", timer, ctypes.c_int(0), (ctypes.c_long * 4)(), None)
    finally:
        _call_library("timer_delete", timer)


def _keep_capabilities() -> None:
    """capset(2) of what this process has anyway."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    _call_library("capget", header, sets)
    _call_library("capset", header, sets)


_TRIALS = (
    _Trial("prlimit64", "2.6.36", lambda: resource.getrlimit(resource.RLIMIT_NOFILE)),
    _Trial("close_range", "5.9", _close_nothing),
    _Trial("pidfd_open", "5.3", _open_pidfd),
    _Trial("pidfd_send_signal", "5.1", _signal_nothing),
    _Trial("memfd_create", "3.17", lambda: os.close(os.memfd_create("fastinetd"))),
    _Trial("epoll_create1", "2.6.27", lambda: select.epoll().close()),
    _Trial("eventfd2", "2.6.27", lambda: os.close(os.eventfd(0))),
    _Trial("timer_create", "2.6", lambda: _make_timer(use=False)),
    _Trial("timer_settime", "2.6", lambda: _make_timer(use=True)),
    _Trial("capset", "2.6.26", _keep_capabilities),
)


def unmet_requirement() -> str | None:
    """Why the daemon cannot serve on this machine, with the remedy; None when it can."""
    return _denied_call() or allowances.refusal() or _wrong_proc()


def _denied_call() -> str | None:
    """Which system call is denied, with the remedy; None when none is. One that fails for another reason, as for want
    of descriptors, is none."""
    for name, since, make in _TRIALS:
        try:
            make()
        except OSError as error:
            if error.errno == errno.ENOSYS:
                return (f"this system has no {name}(2) (ENOSYS): use Linux {since} or later; if it is that, "
                        f"{ALLOW_CALL}")
            if error.errno in (errno.EPERM, errno.EACCES):
                return f"the daemon may not call {name}(2) ({errno.errorcode[error.errno]}); {ALLOW_CALL}"
    return None


def _wrong_proc() -> str | None:
    """Why /proc is of no use, with the remedy; None when it is as it should be."""
    remedy = "mount it: mount -t proc proc /proc"
    pid = pid_in_proc()
    if pid is None:
        return f"there is no /proc, which tells the daemon of its processes; {remedy}"
    if pid != os.getpid():
        return (f"/proc is of another PID namespace, and tells the daemon of other processes than its own; {remedy} "
                "(unshare --mount-proc)")
    return None
