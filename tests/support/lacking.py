"""What a test needs and this machine has not: the test is skipped, or fails where everything must be tested."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import NoReturn

import pytest

IN_CI = bool(os.environ.get("CI"))


def missing(what: str) -> NoReturn:
    """Skip the test, or the module that is being imported, with the reason; where everything must be tested (CI is set)
    it is a failure."""
    if IN_CI:
        pytest.fail(f"{what}; see tests/debian-packages.txt")
    pytest.skip(what, allow_module_level=True)


def need_localhost() -> None:
    """Skip where localhost has no address: a system that was only just unpacked has no /etc/hosts."""
    try:
        socket.getaddrinfo("localhost", 0, socket.AF_INET)
    except socket.gaierror:
        missing("localhost has no address (/etc/hosts)")


def need_modules(perl: str, *modules: str) -> None:
    """Skip where Perl lacks one of these modules: Debian's smallest installation has few."""
    for module in modules:
        if subprocess.run([perl, f"-M{module}", "-e", "1"], capture_output=True, check=False).returncode:
            missing(f"perl's {module} is not installed")
