"""`make run`, and the lines that it prints to paste: each must show something. Run from the project's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

PATIENCE = 60


def main() -> int:
    """Exit status 1 when a line shows nothing, or `make run` does not end well at Control-C."""
    failed = 0
    with subprocess.Popen(["make", "run"], stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout is not None
        try:
            lines: list[str] = []
            while not (lines and lines[-1].startswith("metrics")):
                line = run.stdout.readline()
                if not line:
                    print("make run has ended")
                    return 1
                print(line, end="", flush=True)
                lines.append(line.strip())
            for line in lines:
                name, _, command = line.partition(" ")
                if name not in ("echo", "daytime", "hello", "metrics"):
                    continue
                command = command.strip()
                said = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=PATIENCE)
                print(f"{name}: {(said.stdout or said.stderr or 'nothing').splitlines()[0]}")
                failed |= not said.stdout.strip()
        finally:
            os.killpg(run.pid, signal.SIGINT)
        run.wait(PATIENCE)
    return failed


if __name__ == "__main__":
    sys.exit(main())
