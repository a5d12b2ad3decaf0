"""A skipped test hides nothing where everything must be tested (CI is set)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support import lacking

PACKAGES = Path(__file__).parents[1] / "debian-packages.txt"


@pytest.mark.parametrize(
    ("in_ci", "outcome"), [(True, pytest.fail.Exception), (False, pytest.skip.Exception)], ids=["ci", "elsewhere"]
)
def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, in_ci: bool, outcome: type[BaseException]) -> None:
    monkeypatch.setattr(lacking, "IN_CI", in_ci)
    with pytest.raises(outcome, match="gcc is not installed"):
        lacking.missing("gcc is not installed")


@pytest.mark.skipif(not lacking.IN_CI or not shutil.which("dpkg-query"), reason="only where .ci/run installs packages")
def test_each_package_is_installed() -> None:
    """For tests that look for programs by other means than `need`, too."""
    wanted = {line for line in PACKAGES.read_text().splitlines() if line and not line.startswith("#")}
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"]
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    assert wanted - {line.partition(" ")[0] for line in listed if line.endswith(" installed")} == set()
