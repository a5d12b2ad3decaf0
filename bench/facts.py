"""What a number means nothing without: the machine, the kernel, the versions. No names of hosts or users."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
from pathlib import Path

from bench.peers import PEERS, version_of


def has_autogroup() -> bool:
    """Whether the kernel shares processor time among sessions rather than processes."""
    path = Path("/proc/sys/kernel/sched_autogroup_enabled")
    return path.exists() and path.read_text().strip() == "1"


def machine_facts() -> dict[str, object]:
    """Facts for the record. Memory in MiB; load is the one-minute average before the run."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^(?:model name|Processor)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    gcc = subprocess.run(["gcc", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory[1]) // 1024 if memory else 0,
        "virtual": "hypervisor" in cpuinfo,
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "gcc": gcc,
        "autogroup": has_autogroup(),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {peer.name: version_of(peer) for peer in PEERS if peer.find()},
    }
