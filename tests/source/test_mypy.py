"""The package, its benchmark and its tests are typed, strictly."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_strict() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
