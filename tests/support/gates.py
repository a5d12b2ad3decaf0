"""A gate before which servers stand still until the test opens it: nobody looks again and again."""

from __future__ import annotations

import fcntl
from pathlib import Path
from types import TracebackType
from typing import Self

PASSES = "import fcntl, sys\nfcntl.flock(open(sys.argv[1]), fcntl.LOCK_SH)"
"""Code of a server whose first argument is the gate's path: it waits until the gate is open."""


class Gate:
    """Closed until `open`, or the end of `with`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        path.chmod(0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def open(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
