"""Role processes: forked from the supervisor, watched, retired.

Theory. A role inherits everything by fork and needs nothing afterwards but its descriptors. Its control pipe is its
life line: a byte on it retires the role, its end (the supervisor is gone) makes it leave at once. Whatever way a role
ends, the supervisor sees its pidfd, and what happens next is the same (role_ends.py). In a role the pipe has a low
descriptor, so that the processes that the role starts have it too until exec: the pipe tells when no process has any
more what the role had open (system/last_reader).

Rules of this file: between fork and the role's own code nothing is allocated for others, every descriptor that is not
the role's is closed, no signal ends it but SIGTERM, SIGKILL and faults, and privileges are given up before the first
byte of a stranger is read. A role reports on its start before that, while it is root: no other user can write such a
report, or make the start fail.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from setproctitle import setproctitle

from fastinetd._accept import RENEWAL
from fastinetd.core.reception import RETIREMENT
from fastinetd.core.spawn import default_signals, disregard_signals
from fastinetd.supervisor.role_specs import RoleSpec
from fastinetd.supervisor.signals import NOT_FOR_ROLES, ORDINARY
from fastinetd.system.allowances import explain_error
from fastinetd.system.descriptors import close_others, lift_descriptor, open_lifted_pipe
from fastinetd.system.last_reader import call_after_last_reader
from fastinetd.system.loop import Loop
from fastinetd.system.privileges import CAPABILITY_VERSION_3, choose_nobody, own_privileges
from fastinetd.system.processes import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, prctl

READY = b"\0"
"""A role's report when it is about to serve. Any other report is the reason why it cannot serve."""

Prepare = Callable[[int], Callable[[], None]]
"""Prepares what a role does, given its control pipe, in a process that has all privileges still. Returns the function
that serves without them, until the role ends."""

CONTROL_DESCRIPTOR = 4
"""The descriptor that a role's control pipe has, or the first free one above: higher than those that are put in place
before an exec, and low enough to be among those that a child copies (core/spawn.h)."""


def drop_capabilities() -> None:
    """Give up every capability, those that an exec would give included; raises OSError."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: twice 32 bits each
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, nothing) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


@dataclass
class Role:
    """A running role. Owns its pidfd, the writing end of its control pipe, and the pipe that its report comes on."""

    spec: RoleSpec
    number: int
    pid: int
    pidfd: int
    control: int  # -1 once it is abandoned
    section: int | None
    report: int  # on its start; -1 once it has been read
    ready: bool = False
    trouble: str = ""  # why it cannot serve, if it has reported that
    retired: bool = False
    kept: list[object] = field(default_factory=list)  # what must live as long as the process does

    @property
    def title(self) -> str:
        """The title of the role's process."""
        return self.spec.title(self.number)

    def read_report(self) -> None:
        """Read the role's report, if it has not been read: when there is one, or the role has ended without one."""
        if self.report < 0:
            return
        with suppress(BlockingIOError):
            text = os.read(self.report, select.PIPE_BUF)
            self.ready = text == READY
            self.trouble = "" if self.ready else text.decode(errors="replace")
        os.close(self.report)
        self.report = -1

    def retire(self) -> None:
        """Ask the role to finish what it has in hand and leave."""
        self.retired = True
        self._send(RETIREMENT)

    def abandon(self) -> None:
        """End the role's life line, as if the supervisor had died: the role leaves at once."""
        self.retired = True
        self._close_control()

    @property
    def abandoned(self) -> bool:
        """Whether the role's life line has ended."""
        return self.control < 0

    def kill(self) -> None:
        """End the process, which has not been reaped yet, whatever state it is in."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def resume(self) -> bool:
        """Have the process go on if it has been stopped; returns whether it had."""
        with suppress(ChildProcessError, ProcessLookupError):
            if os.waitid(os.P_PIDFD, self.pidfd, os.WSTOPPED | os.WNOHANG) is not None:
                signal.pidfd_send_signal(self.pidfd, signal.SIGCONT)
                return True
        return False

    def renew_pools(self) -> None:
        """Have an acceptor replace the processes of its pools that wait for clients."""
        self._send(RENEWAL)

    def when_closed(self, loop: Loop, then: Callable[[], object]) -> None:
        """The role has ended: call `then` once no process has a descriptor of the role's open any more."""
        control, self.control = self.control, -1
        call_after_last_reader(loop, control, then)

    def forget(self) -> None:
        """Close what belongs to a role that has ended."""
        os.close(self.pidfd)
        self.read_report()
        self._close_control()

    def _send(self, order: bytes) -> None:
        """Write an order to the control pipe, unless the life line has ended."""
        if self.control >= 0:
            with suppress(BrokenPipeError, BlockingIOError):  # full: it has orders enough
                os.write(self.control, order)

    def _close_control(self) -> None:
        if self.control >= 0:
            os.close(self.control)
        self.control = -1


def fork_role(spec: RoleSpec, number: int, prepare: Prepare, *, keep: Iterable[int], section: int | None) -> Role:
    """Fork a process that serves what `prepare(control)` returns, with only the descriptors in `keep`; takes nothing.
    Raises OSError."""
    with ExitStack() as ours, ExitStack() as its:
        reader, writer = open_lifted_pipe()
        its.callback(os.close, reader)
        ours.callback(os.close, writer)
        os.set_blocking(writer, False)  # a role that is stopped stops no other process
        report, reporter = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)  # for a moment: they need not be lifted
        its.callback(os.close, reporter)
        ours.callback(os.close, report)
        gc.freeze()  # no collection in the child may touch, and so copy, what it shares with us
        pid = os.fork()
        if pid == 0:
            _become_role(spec, number, prepare, reader, reporter, {reader, reporter, *keep})
        its.close()
        try:
            pidfd = lift_descriptor(os.pidfd_open(pid))
        except OSError:
            os.kill(pid, signal.SIGKILL)  # before its section is another's
            os.waitpid(pid, 0)
            raise
        ours.pop_all()
    return Role(spec, number, pid, pidfd, writer, section, report)


def _become_role(spec: RoleSpec, number: int, prepare: Prepare, control: int, reporter: int, keep: set[int]) -> None:
    """The child's side of fork_role; never returns."""
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, ORDINARY)
        signal.set_wakeup_fd(-1)
        for each in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(each, signal.SIG_DFL)
        default_signals()
        disregard_signals(NOT_FOR_ROLES)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setpgid(0, 0)  # Control-C at the terminal is the supervisor's alone
        close_others(keep)
        control = lower_control(control)
        setproctitle(f"fastinetd: {spec.title(number)}")
        serve = prepare(control)
        os.write(reporter, READY)
        os.close(reporter)
        reporter = -1
        if not spec.keeps_privileges:
            drop_privileges()
        serve()
        status = 0
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        with suppress(Exception):
            why = explain_error(error) if isinstance(error, OSError | MemoryError) else why
        with suppress(OSError):
            if reporter >= 0:
                os.write(reporter, why.encode(errors="replace")[: select.PIPE_BUF])
            else:
                os.write(2, f"fastinetd: {spec.kind}: {why}\n".encode())
    finally:
        with suppress(BaseException):
            sys.stderr.flush()
        os._exit(status)


def lower_control(control: int) -> int:
    """Move a control pipe to CONTROL_DESCRIPTOR, or the first free number above; takes it. Raises OSError."""
    try:
        return fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, CONTROL_DESCRIPTOR)
    finally:
        os.close(control)


def drop_privileges() -> None:
    """Become the user nobody for good, as far as possible (the Plan's report says where it is not), and give
    up every capability: securebits(7) or the ambient set may keep them beyond the change of ids. Raises OSError."""
    if os.geteuid() == 0:
        who = choose_nobody(own_privileges())
        if who.groups:
            os.setgroups([])
        if who.gid is not None:
            os.setresgid(who.gid, who.gid, who.gid)
        if who.uid is not None:
            os.setresuid(who.uid, who.uid, who.uid)
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
