"""max_load: refused once the load average has reached it, by what /proc/loadavg says now."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]

SCRIPT = """
import os, sys, time
from fastinetd.core.board import Board
from fastinetd.core.layout import Verdict
from support.accounts import Accounts
from support.core import open_row, program

board = Board.create(4, 8, 1)
accounts = Accounts(board, 0)
rows = {limit: program(open_row(board, max_load=limit)) for limit in (1.5, 1.51, 0.5, 0.0)}

def verdicts():
    found = {}
    for limit, mine in rows.items():
        verdict, slot = accounts.admit(mine, bytes([127, 0, 0, 1]))
        found[limit] = Verdict(verdict).name
        if slot >= 0:
            accounts.drop(slot)
    return found

assert verdicts() == {1.5: "LOAD", 1.51: "ADMIT", 0.5: "LOAD", 0.0: "ADMIT"}, verdicts()
with open(sys.argv[1], "r+") as file:
    file.write("0.49")
end = time.monotonic() + 20
while verdicts() != dict.fromkeys(rows, "ADMIT"):
    assert time.monotonic() < end, verdicts()

kept = []  # what stays open is at 64 or above: all below is copied into each child
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        if os.readlink(f"/proc/self/fd/{fd}") == "/proc/loadavg":
            kept.append(fd)
    except FileNotFoundError:
        pass
assert len(kept) == 1 and kept[0] >= 64, kept
print("done")
"""


def test_reached_and_read_again(tmp_path: Path) -> None:
    """In a mount namespace with a file in the place of /proc/loadavg."""
    load = tmp_path / "loadavg"
    load.write_text("1.50 0.00 0.00 1/100 1\n")
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    mounted = [*unshare, "sh", "-c", 'mount --bind "$0" /proc/loadavg && exec "$@"', str(load)]
    if subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run(
        [*mounted, sys.executable, "-c", SCRIPT, str(load)], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent}"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("done\n", "")
