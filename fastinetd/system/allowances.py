"""What the limits of this process (getrlimit(2)) keep the daemon from, and what to do: no limit ends it in a riddle."""

from __future__ import annotations

import errno
import resource

FEWEST_DESCRIPTORS = 80
"""Without which there is nothing to begin: 64 are set aside for clients, and every listener needs one."""

FEWEST_SIGNALS = 64
"""A start that is under way has a timer, which counts as a pending signal; there is one in each acceptor at a time."""

INFINITE = resource.RLIM_INFINITY

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
"""Which limits may be behind an errno: name, number, and what sets it in a shell and in a unit of systemd."""


def refusal() -> str | None:
    """Why nothing can be served under the limits there are; None: it can."""
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
    """What will be felt later."""
    seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if seconds == INFINITE:
        return []
    return [f"each of the daemon's processes is ended after {seconds} s of processor time, and servers inherit that; "
            "start without this limit (ulimit -t, LimitCPU), and use rlimit_cpu for servers"]


def more_descriptors() -> None:
    """As many descriptors as the hard limit allows: one per running server. Servers get the original limit back."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def explained(error: OSError | MemoryError) -> str:
    """An error with the limits that may be behind it and where they are set; as it is where none is."""
    number = error.errno if isinstance(error, OSError) else errno.ENOMEM
    text = str(error.strerror if isinstance(error, OSError) else "out of memory")
    remedy = remedy_for(number)
    return f"{text}: {remedy}" if remedy else str(error) or text


def remedy_for(number: int | None) -> str | None:
    """Which limits of this process may be behind an errno, and what to do; None: none is."""
    limits = []
    for name, which, where in _LIMITS.get(number or 0, ()):
        soft = resource.getrlimit(which)[0]
        if soft != INFINITE:
            limits.append(f"{name} {soft} ({where})")
    if not limits:
        return None
    return f"what limits this process is {' and '.join(limits)}; allow more, or start without the limit"
