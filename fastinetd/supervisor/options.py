"""How the daemon was started, as far as the supervisor's parts need to know."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Config


@dataclass(frozen=True)
class Options:
    """What the command line asks for. The two functions are the command's own: it knows the language of the
    configuration file, and the pid file."""

    read: Callable[[Report], Config]  # reads the configuration
    source: str  # its file
    acceptors: int
    metrics: socket.socket | None = None
    process_limit: int | None = None
    stay_alive: bool = False
    check_every: float = 0.0  # seconds between consistency checks; 0: only on SIGABRT
    stopping: Callable[[], None] = lambda: None  # called when no client is served any more
