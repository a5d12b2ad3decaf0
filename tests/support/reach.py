"""What other users need of this checkout. They cannot enter it where a folder above it is closed to them, as /root is:
there the tests copy what they need to a folder that is open to everybody."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import stat
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORTED = ("fastinetd", "setproctitle", "prometheus_client")
"""The package, and what it imports."""


def closed_above(path: Path) -> Path | None:
    """The first folder on the way to a file that users in general may not enter."""
    for folder in reversed(path.resolve().parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def closed_to_others() -> str:
    """What keeps others out of the checkout; nothing where it is open, and where the tests have no other user."""
    folder = closed_above(ROOT / "tests") if os.geteuid() == 0 else None
    return f"other users may not enter {folder} (mode {folder.stat().st_mode & 0o7777:04o})" if folder else ""


@cache
def _copies() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fastinetd.reach."))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def reachable(path: Path) -> Path:
    """The file itself, or a copy of it that every user may read."""
    if not closed_to_others():
        return path
    copy = _copies() / path.name
    shutil.copy(path, copy)
    copy.chmod(0o755)
    return copy


@cache
def import_path() -> dict[str, str]:
    """The variable with which the Python of these tests finds the daemon as any user, from any folder."""
    if not closed_to_others():
        return {}
    for name in IMPORTED:
        found = importlib.util.find_spec(name)
        assert found is not None and found.origin is not None
        shutil.copytree(Path(found.origin).parent, _copies() / name, ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": str(_copies())}
