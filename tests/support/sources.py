"""The sources of the package. Whoever takes files by a pattern must notice when one is not found: their numbers are
stated here, and here alone."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fastinetd"

NUMBERS = {".py": 142, ".pyi": 21, ".pyx": 21, ".pxd": 30, ".h": 22, ".c": 2}
"""Ending -> how many sources have it. C that Cython has made is no source."""

FEWEST_BESIDE = {"bench": 49, "tests": 263, "tests/mutation": 5, "tests/source": 24, "tests/support": 45}
"""Folder beside the package -> how many sources in Python it has at the least."""

FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
"""The folders of the package."""

assert len(FOLDERS) == 17, "a new folder, or are they not where they are looked for?"


def sources_of(*endings: str) -> list[Path]:
    """The sources that end so, in order; fails when there are more or fewer than are known."""
    found = []
    for ending in endings:
        paths = [path for path in PACKAGE.rglob(f"*{ending}")
                 if not (ending == ".c" and path.with_suffix(".pyx").exists())]  # fmt: skip
        assert len(paths) == NUMBERS[ending], (
            f"{len(paths)} sources end with {ending}, and {NUMBERS[ending]} are known: has one been lost? "
            f"The number of those that there shall be stands in {Path(__file__).relative_to(ROOT)}"
        )
        found += paths
    return sorted(found)


def python_in(folder: str) -> list[Path]:
    """The sources in Python of a folder beside the package; fails when there are fewer than there have been."""
    found = sorted((ROOT / folder).rglob("*.py"))
    assert len(found) >= FEWEST_BESIDE[folder], f"{folder} has {len(found)} sources, fewer than there have been"
    return found
