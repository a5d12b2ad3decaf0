"""The capability that keeps others of its user out of a program that is started to be held (docs/pools.md, Security).

Theory. The kernel lets nobody look into a process that has a capability which he has not. A program that is to be held
is started with one and gives it up before it serves (core/spawn_guard.h, stage/guard.h). What it does until then it
does with that capability, and somebody of its user may have written it: so it must be one that is worth nothing to him.
What the program starts before it is held keeps the capability.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

NET_BIND_SERVICE, NET_BROADCAST, WAKE_ALARM = 10, 11, 35  # capabilities(7)

PR_GET_SECUREBITS, PR_CAP_AMBIENT = 27, 47
AMBIENT_IS_SET = 1
NO_AMBIENT = 1 << 6 | 1 << 5
"""Securebits that forbid it: no ambient capability is raised, none is kept when the user changes."""

ANY_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def guard() -> int | None:
    """The first that this process could give to a program; None where there is none."""
    sets = _sets()
    usable = sets.get("CapPrm", 0) & sets.get("CapBnd", 0) & ~sets.get("CapInh", 0)
    libc = ctypes.CDLL(None)
    if libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & NO_AMBIENT:
        return None
    return next((number for number in _harmless() if usable >> number & 1
                 and libc.prctl(PR_CAP_AMBIENT, AMBIENT_IS_SET, number, 0, 0) == 0), None)  # fmt: skip


def _harmless() -> list[int]:
    """What they are good for: to hear of changes in other network namespaces (NETLINK_LISTEN_ALL_NSID); to wake a
    machine that is suspended; and, the only one that containers have by themselves, to bind ports below 1024, where
    that is everybody's right anyway."""
    found = [NET_BROADCAST, WAKE_ALARM]
    with suppress(OSError, ValueError):
        if int(ANY_PORT.read_text()) == 0:
            found.append(NET_BIND_SERVICE)
    return found


def _sets() -> dict[str, int]:
    """This process's sets of capabilities, as /proc/self/status names them."""
    with suppress(OSError):
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        return {words[0].rstrip(":"): int(words[1], 16) for words in lines if words[:1] and words[0].startswith("Cap")}
    return {}
