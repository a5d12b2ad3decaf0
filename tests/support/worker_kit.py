"""Where the workers of tests run: their search path, their syslog."""

from __future__ import annotations

import sys
from pathlib import Path

from support.worker_peer import HANDLER, ROOT, WorkerPeer, serve_once

SUPPORT = ROOT / "tests" / "support"

LOGGING = """
import os, syslog
def log(priority, text):
    with open(os.environ["SYSLOG"], "a") as file:
        file.write(f"{priority} {text}\\n")
syslog.syslog = log
"""
"""Python reads it, as sitecustomize, before a worker begins: syslog is a file then."""

KINDS = ["plain", "coroutine"]
"""Handlers of worker_handlers that run what their client sends."""

CANNOT = 78
"""The status of a worker that cannot begin."""


class Kit:
    """Where workers run: their search path, their syslog."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "sitecustomize.py").write_text(LOGGING)
        self.environ = {
            "PYTHONPATH": f"{folder}:{ROOT}:{SUPPORT}", "SYSLOG": str(folder / "syslog"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    def start(self, handler: str, *, module: str = "worker_handlers", **environ: str) -> WorkerPeer:
        return WorkerPeer([*HANDLER, f"{module}:{handler}"], self.folder, self.environ | environ)

    def script(self, text: str, **environ: str) -> WorkerPeer:
        """A program that is no handler."""
        return WorkerPeer([sys.executable, "-c", text], self.folder, self.environ | environ)

    def once(self, argv: list[str] | tuple[str, ...], request: bytes = b"") -> tuple[bytes, int]:
        return serve_once(argv, self.folder, request, environ=self.environ)

    def logged(self) -> list[str]:
        """What the daemon is told, a line each: it is a worker's standard error."""
        return self.stderr().splitlines()

    def syslog(self) -> list[str]:
        path = self.folder / "syslog"
        return path.read_text().splitlines() if path.exists() else []

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()
