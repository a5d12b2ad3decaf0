"""The rlimits of this process (getrlimit(2)) under which the daemon cannot work, with their remedies in messages."""

from __future__ import annotations

import errno
import resource

FEWEST_DESCRIPTORS = 80
"""Open files that the daemon needs: 64 are for connections, and each listener takes one."""

FEWEST_SIGNALS = 64
"""Pending signals that the daemon needs: each acceptor has a timer while it starts a server, which counts as one."""

INFINITE = resource.RLIM_INFINITY
"""The value of an rlimit that does not limit."""

_LIMITS = {
    errno.EFBIG: (("size of files", resource.RLIMIT_FSIZE, "ulimit -f, LimitFSIZE"),),
    errno.ENOMEM: (
        ("address space", resource.RLIMIT_AS, "ulimit -v, LimitAS"),
        ("data", resource.RLIMIT_DATA, "ulimit -d, LimitDATA"),
    ),
    errno.EAGAIN: (
        ("processes of this user", resource.RLIMIT_NPROC, "ulimit -u, LimitNPROC"),
        ("pending signals", resource.RLIMIT_SIGPENDING, "ulimit -i, LimitSIGPENDING"),
    ),
    errno.EMFILE: (("open files", resource.RLIMIT_NOFILE, "ulimit -n, LimitNOFILE"),),
}
"""errno -> the rlimits that may cause it: name, number, how a shell and a unit of systemd set it."""

_CONTROL_GROUP = {errno.EAGAIN: "the most processes of its control group (TasksMax, --pids-limit of a container)"}
"""errno -> a cause beside the rlimits that this process cannot see."""


def refusal() -> str | None:
    """Why the daemon cannot serve under its rlimits, with the remedy; None when it can."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if descriptors != INFINITE and descriptors < FEWEST_DESCRIPTORS:
        return (f"no more than {descriptors} descriptors may be open; allow at least {FEWEST_DESCRIPTORS} "
                "(ulimit -n, LimitNOFILE)")
    signals = resource.getrlimit(resource.RLIMIT_SIGPENDING)[0]
    if signals != INFINITE and signals < FEWEST_SIGNALS:
        return (f"no more than {signals} signals may be pending, and no server could be started; allow at least "
                f"{FEWEST_SIGNALS} (ulimit -i, LimitSIGPENDING)")
    return None


def warnings() -> list[str]:
    """Warnings of rlimits that will end processes of the daemon later."""
    seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if seconds == INFINITE:
        return []
    return [f"each of the daemon's processes is ended after {seconds} s of processor time, and servers inherit that; "
            "start without this limit (ulimit -t, LimitCPU), and use rlimit_cpu for servers"]


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one; servers get the original. Each running server takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def explain_error(error: OSError | MemoryError) -> str:
    """The text of an error, followed by the limits that may have caused it and the remedy."""
    number = error.errno if isinstance(error, OSError) else errno.ENOMEM
    text = str(error.strerror if isinstance(error, OSError) else "out of memory")
    remedy = remedy_for(number)
    return f"{text}: {remedy}" if remedy else str(error) or text


def remedy_for(number: int | None) -> str | None:
    """The limits of this process that may have caused an errno, and what to do; None when none may."""
    limits = []
    for name, which, where in _LIMITS.get(number or 0, ()):
        soft = resource.getrlimit(which)[0]
        if soft != INFINITE:
            limits.append(f"{name} {soft} ({where})")
    limits += (text for which, text in _CONTROL_GROUP.items() if which == number)
    if not limits:
        return None
    return f"what limits this process is {' or '.join(limits)}; allow more, or start without the limit"
