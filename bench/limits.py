"""How many processes and connections this machine lets a scenario have, and what stops it from more."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

PROC = Path("/proc")
EACH = 400_000  # bytes of memory that a small process with its connection is reckoned at
SPARE_DESCRIPTORS, SPARE_PIDS, SPARE_PORTS = 1000, 2000, 2000  # for everything else
ROUND = 100


def least_bound(wanted: int, bounds: Mapping[str, int]) -> tuple[int, str]:
    """*wanted*, or the smallest of *bounds* in whole hundreds and the name of that bound."""
    name = min(bounds, key=lambda bound: bounds[bound])
    if bounds[name] >= wanted:
        return wanted, ""
    return max(bounds[name] // ROUND * ROUND, 0), name


def bounds_here() -> dict[str, int]:
    """What holds here: the name of each limit, and the number of processes that it allows."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    first, last = (int(word) for word in (PROC / "sys/net/ipv4/ip_local_port_range").read_text().split())
    memory = next(line for line in (PROC / "meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    found = {
        "RLIMIT_NOFILE": descriptors - SPARE_DESCRIPTORS,
        "kernel.pid_max": int((PROC / "sys/kernel/pid_max").read_text()) - SPARE_PIDS,
        "kernel.threads-max": int((PROC / "sys/kernel/threads-max").read_text()) - SPARE_PIDS,
        "net.ipv4.ip_local_port_range": last - first - SPARE_PORTS,
        "available memory": int(memory.split()[1]) * 1024 // EACH,
    }
    if processes != resource.RLIM_INFINITY:
        found["RLIMIT_NPROC"] = processes - SPARE_PIDS
    if (group := pids_max()) is not None:
        found["pids.max of the control group"] = group - SPARE_PIDS
    return found


def pids_max() -> int | None:
    """The control group's own limit, of whichever version the kernel runs; None where there is none."""
    for line in (PROC / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "pids"):
            continue
        file = Path("/sys/fs/cgroup") / controllers / path.lstrip("/") / "pids.max"
        if file.exists() and (text := file.read_text().strip()) != "max":
            return int(text)
    return None


def processes_allowed(wanted: int) -> tuple[int, str]:
    """How many processes a scenario that wants *wanted* may have here, and a line for the record if fewer."""
    count, name = least_bound(wanted, bounds_here())
    return count, f"{count:,} processes in place of {wanted:,}: {name} allows no more" if name else ""
