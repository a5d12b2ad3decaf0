"""One build for all tests of the hot path; the numbers of system calls."""

import re
import subprocess

import pytest

from support.hot import Built, build_into


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_into(tmp_path_factory.mktemp("hot") / "build")


@pytest.fixture(scope="session")
def numbers() -> dict[str, int]:
    """Name -> number, as the kernel's header has them."""
    text = subprocess.run(["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-"], input="", capture_output=True,
                          text=True, check=True).stdout  # fmt: skip
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}
