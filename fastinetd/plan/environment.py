"""The environment of servers: that with which the daemon was started, byte for byte, and what the service adds.

As in xinetd an environment is a list: entries without `=` and variables that are there twice stay. A variable that is
set takes the place of the first of its name, or comes at the end. The variables of the connection follow
(core/program).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastinetd.config.model import Service, encode_text
from fastinetd.core.exec_context import Environment
from fastinetd.core.program import CONNECTION_VARIABLES

MANAGERS = frozenset({
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "MAINPID",
    "MANAGERPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "FDSTORE",
})  # fmt: skip
"""Variables of a service manager (sd_notify(3), sd_listen_fds(3)) for the daemon, which servers do not inherit."""

_NOT_INHERITED = frozenset(map(encode_text, CONNECTION_VARIABLES | MANAGERS))


def environment_at_start() -> Environment:
    """The environment with which this process was started, from /proc/self/environ.

    To be called before the process sets its title, which overwrites that memory. Without /proc it is `os.environ`,
    to which Python adds LC_CTYPE in the locale C, and from which it removes variables that are there twice and entries
    without `=`.
    """
    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:
        return tuple(name + b"=" + value for name, value in os.environb.items())
    return tuple(block.split(b"\0")[:-1])


def environment_of(service: Service, inherited: Sequence[bytes]) -> Environment:
    """The environment of a service's servers: `inherited`, `passenv` and `env`, without the connection's variables."""
    scrubbed = tuple(map(encode_text, service.scrubbed))
    kept = [entry for entry in inherited if _name_of(entry) not in _NOT_INHERITED and not entry.startswith(scrubbed)]
    if service.passenv is not None:
        names = dict.fromkeys(map(encode_text, service.passenv))
        kept = [entry for name in names for entry in _first_named(kept, name)]
    for name, value in service.env:
        if name not in CONNECTION_VARIABLES:
            _set_variable(kept, encode_text(name), encode_text(value))
    return tuple(kept)


def _name_of(entry: bytes) -> bytes | None:
    """The name of a variable; None for an entry without `=`."""
    name, equals, _ = entry.partition(b"=")
    return name if equals else None


def _first_named(entries: Iterable[bytes], name: bytes) -> list[bytes]:
    """The first variable of a name, alone in a list; [] when there is none."""
    return [entry for entry in entries if _name_of(entry) == name][:1]


def _set_variable(entries: list[bytes], name: bytes, value: bytes) -> None:
    """Give the first variable of a name this value, or append the variable."""
    at = next((number for number, entry in enumerate(entries) if _name_of(entry) == name), len(entries))
    entries[at : at + 1] = [name + b"=" + value]
