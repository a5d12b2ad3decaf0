"""What first_io gains here: the benchmark's ratios. Run from the project's folder. Exit status 1 when a script is held
early, or a connection was lost."""

from __future__ import annotations

import subprocess
import sys

if __name__ == "__main__":
    options = ["--only", "first_io", "--rounds", "3", "--seconds", "3"]
    sys.exit(subprocess.run([sys.executable, "-m", "bench", *options]).returncode)
