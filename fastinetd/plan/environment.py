"""The environment of servers: what the daemon itself was started with, byte for byte, and what its service adds.

As in xinetd an environment is a list: what has no `=` and what is there twice stays. A variable that is set takes the
place of the first of its name, or comes at the end. The variables of the connection follow (core/program).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastinetd.config.model import Service, encode_text
from fastinetd.core.program import CONNECTION_VARIABLES

Environment = tuple[bytes, ...]

MANAGERS = frozenset({
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "MAINPID",
    "MANAGERPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "FDSTORE",
})  # fmt: skip
"""What a service manager tells the daemon, and what is nothing to its servers."""

_NOT_INHERITED = frozenset(map(encode_text, CONNECTION_VARIABLES | MANAGERS))


def environment_at_start() -> Environment:
    """What this process was started with. Its title must not have been set yet: that is written over it.

    `os.environ` is something else: Python adds LC_CTYPE to it where the locale is C, and takes out what is there twice
    and what has no `=`. It is what is left where /proc cannot be read.
    """
    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:
        return tuple(name + b"=" + value for name, value in os.environb.items())
    return tuple(block.split(b"\0")[:-1])


def environment_of(service: Service, inherited: Sequence[bytes]) -> Environment:
    """The constant part of a service's environment, of what the daemon was started with and its `passenv` and `env`."""
    scrubbed = tuple(map(encode_text, service.scrubbed))
    kept = [entry for entry in inherited if _name(entry) not in _NOT_INHERITED and not entry.startswith(scrubbed)]
    if service.passenv is not None:
        names = dict.fromkeys(map(encode_text, service.passenv))
        kept = [entry for name in names for entry in _first(kept, name)]
    for name, value in service.env:
        if name not in CONNECTION_VARIABLES:
            _set(kept, encode_text(name), encode_text(value))
    return tuple(kept)


def _name(entry: bytes) -> bytes | None:
    """A variable's name; None of an entry that is no variable."""
    name, equals, _ = entry.partition(b"=")
    return name if equals else None


def _first(entries: Iterable[bytes], name: bytes) -> list[bytes]:
    """The first variable of a name, if there is one."""
    return [entry for entry in entries if _name(entry) == name][:1]


def _set(entries: list[bytes], name: bytes, value: bytes) -> None:
    """Give a variable its value."""
    at = next((number for number, entry in enumerate(entries) if _name(entry) == name), len(entries))
    entries[at : at + 1] = [name + b"=" + value]
