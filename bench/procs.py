"""Readings of a server's process tree from /proc: processor time, wake-ups, memory.

A server is many processes, and its children die all the time. When a parent reaps a child the
kernel adds the child's time to the parent's "children" fields, so the sum of own and children's time
over the processes alive now is everything the tree ever used, whoever did the reaping.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One line of /proc/PID/stat. *born* is in clock ticks since boot: with the pid it names a
    process for good. *cpu* is in seconds, own and reaped children's."""

    pid: int
    parent: int
    session: int
    born: int
    cpu: float
    zombie: bool


def read_process(pid: int) -> Process | None:
    """The process now, or None when it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may contain anything
    ticks = sum(int(field) for field in fields[11:15])
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), ticks * TICK, fields[0] in "ZX")


def process_tree(root: int) -> list[Process]:
    """The processes of *root*, its session (servers are started in one of their own, and some of it may have lost its
    parent) and all their descendants that exist now, zombies included."""
    by_parent: dict[int, list[Process]] = {}
    found: dict[int, Process] = {}
    for entry in os.listdir(PROC):
        if entry.isdigit() and (process := read_process(int(entry))):
            by_parent.setdefault(process.parent, []).append(process)
            if root in (process.pid, process.session):
                found[process.pid] = process
    todo = list(found.values())
    while todo:
        for child in by_parent.get(todo.pop().pid, ()):
            if child.pid not in found:
                found[child.pid] = child
                todo.append(child)
    return list(found.values())


def cpu_seconds(root: int) -> float:
    """Processor time used so far by the tree, in seconds (resolution one clock tick per process)."""
    return sum(process.cpu for process in process_tree(root))


def wakeups(root: int) -> int:
    """Context switches so far, voluntary or not, over all threads of the tree."""
    total = 0
    for process in process_tree(root):
        for status in PROC.glob(f"{process.pid}/task/*/status"):
            try:
                lines = status.read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return total


def pss_bytes(root: int) -> int:
    """Memory of the tree in bytes; a page shared by n processes counts 1/n in each."""
    total = 0
    for process in process_tree(root):
        try:
            lines = (PROC / str(process.pid) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def listening_ports() -> set[int]:
    """TCP ports (IPv4 and IPv6) in state LISTEN in this network namespace."""
    ports = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports
