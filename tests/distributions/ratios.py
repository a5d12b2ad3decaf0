"""What first_io gains here: processor time of a connection by exec over that of a fork, as a line for the table in
docs/pools.md. Run from the project's folder, as root. Exit status 1 when a script is held early, or a connection was
lost.

Processor time, and not connections a second: it is nearly the same whatever else the machine does, and both are taken
in the same round.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EXEC, HELD = "fastinetd exec, ", "fastinetd first_io, "
OPTIONS = ("--only", "first_io", "--rounds", "5", "--seconds", "2")


def gains(cases: dict[str, Any], language: str) -> str:
    """Milliseconds by exec and by a fork, and the median of the rounds' ratios."""
    by_exec, held = ([sample["cpu_us"] / 1000 for sample in cases[way + language]["samples"]] for way in (EXEC, HELD))
    ratio = statistics.median(a / b for a, b in zip(by_exec, held, strict=True))
    return f"{language}: {statistics.median(by_exec):.2f} ms / {statistics.median(held):.2f} ms = {ratio:.1f}"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.json"
        done = subprocess.run([sys.executable, "-m", "bench", *OPTIONS, "--json", str(records)], check=False)
        if not records.exists():
            return done.returncode or 1
        (record,) = json.loads(records.read_text())
    print("first_io:", " ".join(platform.libc_ver()), "Linux", platform.release())
    for case in record["cases"]:
        if case.startswith(HELD):
            print("   ", gains(record["cases"], case.removeprefix(HELD)))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
