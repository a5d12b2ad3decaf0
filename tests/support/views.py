"""What a server finds when it is started, read from the report of probe.sh."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from support.reach import reachable

PROBE = reachable(Path(__file__).parent / "probe.sh")

STATUS = (
    "Umask", "Uid", "Gid", "Groups", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd",
    "CapAmb", "NoNewPrivs", "Seccomp",
)  # fmt: skip
O_NONBLOCK = 0o4000


@dataclass(frozen=True)
class View:
    """One report."""

    pid: int
    argv: list[str]
    env: list[str]
    status: dict[str, str]
    limits: dict[str, str]
    nice: int
    session_is_own: bool
    group_is_own: bool
    terminal: int
    descriptors: list[tuple[int, str, bool]]
    """Number, what it is, and whether it is non-blocking."""
    places: str

    def variables(self) -> dict[str, str]:
        return dict(entry.partition("=")[::2] for entry in self.env)

    def limit(self, name: str) -> str:
        """`soft hard`."""
        return self.limits[name]

    def comparable(self) -> dict[str, object]:
        """Everything that does not differ from one start to the next."""
        kinds = [(number, re.sub(r"\d+", "N", target), waiting) for number, target, waiting in self.descriptors]
        return {
            "argv": self.argv,
            "env": self.variables(),
            "variables given twice": len(self.env) - len(self.variables()),
            **{f"status {name}": value for name, value in self.status.items()},
            **{f"limit {name}": value for name, value in self.limits.items()},
            "nice": self.nice,
            "session is its own": self.session_is_own,
            "process group is its own": self.group_is_own,
            "terminal": self.terminal,
            "descriptors": kinds,
            "one socket": len({target for _, target, _ in self.descriptors}) == 1,
            "places": self.places,
        }


def view(report: bytes) -> View:
    """Read a report; fails when it is not whole."""
    parts = re.split(r"^=== (\w+)\n", report.decode(errors="surrogateescape"), flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2]))
    assert {"cmdline", "environ", "pid"} <= found.keys(), report
    status = dict(re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", found["status"], re.MULTILINE))
    fields = found["stat"].rpartition(")")[2].split()
    pid = int(found["pid"])
    limits = re.findall(r"^(Max .*?)  +(\S+) +(\S+)", found["limits"], re.MULTILINE)
    opened = re.findall(r" (\d+) -> (.*)", found["descriptors"])
    flags = dict(re.findall(r"fdinfo/(\d+):flags:\s*(\d+)", found["descriptors"]))
    return View(
        pid=pid,
        argv=found["cmdline"].rstrip("\n").rstrip("\0").split("\0"),
        env=[entry for entry in found["environ"].rstrip("\n").split("\0") if entry],
        status={name: status[name] for name in STATUS if name in status},
        limits={name: f"{soft} {hard}" for name, soft, hard in limits},
        nice=int(fields[16]),
        session_is_own=int(fields[3]) == pid,
        group_is_own=int(fields[2]) == pid,
        terminal=int(fields[4]),
        descriptors=sorted(
            (int(number), target, bool(int(flags.get(number, "0"), 8) & O_NONBLOCK))
            for number, target in opened
            if not target.endswith(PROBE.name)
        ),
        places=found["places"].strip(),
    )
