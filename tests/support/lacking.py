"""What a test needs and this machine has not: the test is skipped, or fails where everything must be tested."""

from __future__ import annotations

import os
import subprocess
from typing import NoReturn

import pytest

IN_CI = bool(os.environ.get("CI"))


def missing(what: str) -> NoReturn:
    """Skip, with the reason; where everything must be tested (CI is set) it is a failure."""
    if IN_CI:
        pytest.fail(f"{what}; see tests/debian-packages.txt")
    pytest.skip(what)


def need_modules(perl: str, *modules: str) -> None:
    """Modules of Perl: Debian's smallest installation has the program without most of them."""
    for module in modules:
        if subprocess.run([perl, f"-M{module}", "-e", "1"], capture_output=True, check=False).returncode:
            missing(f"perl's {module} is not installed")
