"""Which signals mean something to the daemon, and what becomes of the others.

Theory. An ordinary signal without a handler ends a process. The supervisor has a meaning for some, and ignores or
reports the rest: to send SIGALRM or SIGIO to a daemon is a mistake, and its clients must not pay for it. Signals
are the supervisor's alone: `killall -HUP`, or an init script that looks for the executable file, reaches the roles too,
and they do nothing. SIGTERM ends them: a program that an acceptor is just about to execute must not miss it.

Rules of this file: nothing here is ignored where a handler will do, for programs inherit what is ignored.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from functools import partial

from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.system.loop import Loop

_FAULTS = {signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS}
_NO_END = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
_IGNORED: set[int] = {signal.SIGPIPE, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGXFSZ}
"""Signals that a process gets for a write, or from its terminal."""
_STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}

ORDINARY: frozenset[int] = frozenset(signal.valid_signals() - _FAULTS - _NO_END - {signal.SIGKILL, signal.SIGSTOP})
"""Signals that end or stop a process which does not handle them, and are no sign of a fault in it."""

NOT_FOR_ROLES = ORDINARY - {signal.SIGTERM}
"""Signals that do nothing to a role."""


def postpone_signals() -> None:
    """Keep the signals that come during the start until `handle_signals`; only those that end the daemon then end it
    now."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ORDINARY - _STOPPING)


def handle_signals(loop: Loop, meanings: Mapping[int, Callable[[], None]], messages: DaemonLog) -> None:
    """Give signals their meanings, and deliver those that have come so far. Each other signal is logged the
    first time it comes."""
    reported: set[int] = set()

    def stray(number: int) -> None:
        if number not in reported:
            reported.add(number)
            messages.warning(f"{_name_of_signal(number)} has no meaning here and is ignored")

    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for number in ORDINARY - _IGNORED - {signal.SIGALRM}:
        loop.on_signal(number, meanings.get(number) or partial(stray, number))
    loop.on_signal(signal.SIGALRM, lambda: None)  # the process has them from its own timer (system/strangers)
    for number in meanings.keys() - ORDINARY:
        loop.on_signal(number, meanings[number])
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the launcher may have blocked some, too


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
