"""What the server in probe.c found when it began: everything that does not differ from one start to the next."""

from __future__ import annotations

import re

COUNTED = re.compile(r"Vm\w+|Rss\w+|Hugetlb\w+|SigQ|\w*voluntary_ctxt_switches|NoNewPrivs_\w+|HugetlbPages")
"""Lines of /proc/self/status that tell how much the server has used so far."""

PIDS = {"Tgid", "Ngid", "Pid", "NStgid", "NSpid", "NSpgid", "NSsid", "PPid"}
"""Lines of /proc/self/status that name processes: the probe tells how they belong together."""

STAT = {
    2: "comm", 3: "state", 7: "terminal", 8: "terminal's group", 18: "priority", 19: "nice", 20: "threads",
    21: "interval timer", 31: "pending", 32: "blocked", 33: "ignored", 34: "caught", 38: "exit signal",
    40: "real-time priority", 41: "policy", 52: "exit code",
}  # fmt: skip
"""Fields of /proc/self/stat; the others are addresses, counters and pids. The flags of the task (9) are the
kernel's own and tell, rightly, that a forked process has not called execve."""


def fields(report: bytes) -> dict[str, object]:
    """Name -> value; fails when the report is not whole."""
    parts = re.split(r"^=== (.*)\n", report.decode(errors="surrogateescape"), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2]))
    assert "end" in found, report[-500:]
    del found["pid"], found["parent"], found["end"]
    told: dict[str, object] = {}
    for line in found.pop("status").splitlines():
        name, _, value = line.partition(":")
        if name and name not in PIDS and not COUNTED.fullmatch(name):
            told[f"status {name}"] = value.strip()
    before, _, after = found.pop("stat").rpartition(")")
    values = ["", before.partition("(")[2], *after.split()]
    told |= {f"stat {name}": values[number - 1] for number, name in STAT.items()}
    for name in ("environ", "environment in memory"):
        variables = re.findall(r"\[(.*)\]" if "memory" in name else r"([^\0]+)", found[name].rstrip("\n"))
        told[name] = [re.sub(r"(PORT=)\d+$", r"\1N", text) for text in variables if text]
    told["the environment fills its place"] = found.pop("environ").rstrip("\n").count("\0\0") == 0
    told["array follows the arguments"] = found.pop("environment in memory").splitlines()[-1]
    told["descriptors"] = re.sub(r"\[\d+\]", "[N]", found.pop("descriptors")).splitlines()
    return told | {name: text.strip("\n").splitlines() for name, text in found.items()}


def number(report: bytes, name: str) -> int:
    """A number of the report: `pid`, or `parent`."""
    match = re.search(rb"^=== " + name.encode() + rb"\n(\d+)\n", report, re.MULTILINE)
    assert match, report
    return int(match[1])
