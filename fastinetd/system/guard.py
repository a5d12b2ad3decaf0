"""The capability that bars other processes of its user from a program that is started to be held (docs/pools.md).

Theory. The kernel lets no process trace, or read the memory of, one that has a capability which the first lacks
(ptrace(2)). A program that is to be held is started with a capability and gives it up before it serves
(core/spawn_guard.h, stage/guard.h). All that the program does until then it does with that capability, and its user may
have written the program: so the capability must be worth nothing to that user. Programs that it starts before it is
held keep the capability.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

from fastinetd.system.processes import read_own_status

NET_BIND_SERVICE, NET_BROADCAST, WAKE_ALARM = 10, 11, 35  # capabilities(7)

PR_GET_SECUREBITS, PR_CAP_AMBIENT = 27, 47  # prctl(2)
AMBIENT_IS_SET = 1  # PR_CAP_AMBIENT_IS_SET
NO_AMBIENT = 1 << 6 | 1 << 5
"""Securebits with which no program gets an ambient capability: SECBIT_NO_CAP_AMBIENT_RAISE, SECBIT_KEEP_CAPS_LOCKED."""

ANY_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
"""Holds the lowest port that needs no capability."""


def find_guard() -> int | None:
    """The number of a harmless capability that this process could give to a program; None when it has none."""
    permitted, bounding, inheritable = _capability_sets()
    # Not one that servers should inherit: a held program gives it up.
    usable = permitted & bounding & ~inheritable
    libc = ctypes.CDLL(None)
    if libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) & NO_AMBIENT:
        return None
    for number in _harmless_capabilities():
        if usable >> number & 1 and libc.prctl(PR_CAP_AMBIENT, AMBIENT_IS_SET, number, 0, 0) == 0:
            return number
    return None


def _harmless_capabilities() -> list[int]:
    """Capabilities that are worth nothing to a user.

    NET_BROADCAST lets a process hear of changes in other network namespaces (NETLINK_LISTEN_ALL_NSID), WAKE_ALARM
    wake a suspended machine. NET_BIND_SERVICE, the only one that containers have without being asked, counts where
    every user may bind ports below 1024.
    """
    found = [NET_BROADCAST, WAKE_ALARM]
    with suppress(OSError, ValueError):
        if int(ANY_PORT.read_text()) == 0:
            found.append(NET_BIND_SERVICE)
    return found


def _capability_sets() -> tuple[int, int, int]:
    """The permitted, bounding and inheritable capabilities of this process, a bit for each; 0 without /proc."""
    status = read_own_status()
    permitted, bounding, inheritable = (int(status.get(name, "0"), 16) for name in ("CapPrm", "CapBnd", "CapInh"))
    return permitted, bounding, inheritable
