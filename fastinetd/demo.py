"""`fastinetd --demo`: three services to try, on free high ports of the loopback address."""

from __future__ import annotations

import os
import pwd
import socket
from itertools import count

from fastinetd.config.model import Config, Place, Service

HOST = "127.0.0.1"
FIRST_PORT = 17007

SCRIPT = 'echo "Hello $REMOTE_ADDR from process $$, started for you by fastinetd."'
"""What the spawned program says; any program that talks on its standard input and output would do."""


def configuration() -> Config:
    """Echo and daytime built in, and a program started for each connection."""
    ports = _free_ports(3)
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    place = Place("--demo", 1)

    def service(name: str, port: int, **values: object) -> Service:
        internal = frozenset({"UNLISTED"}) if "server" in values else frozenset({"INTERNAL", "UNLISTED"})
        return Service(name, name, place, types=internal, port=port, bind=(HOST,), **values)  # type: ignore[arg-type]

    return Config("--demo", (
        service("echo", ports[0]),
        service("daytime", ports[1]),
        service("hello", ports[2], user=user, server="/bin/sh", argv=("sh", "-c", SCRIPT)),
    ))  # fmt: skip


def instructions(config: Config, metrics: tuple[str, int] | None) -> str:
    """A line to paste for each service, and for the metrics."""
    lines = ["fastinetd --demo serves, until Control-C:", ""]
    hints = {"echo": "echo 'are you there?' | nc -N", "daytime": "nc", "hello": "nc"}
    for service in config.services:
        lines.append(f"  {service.id:8} {hints[service.id]} {HOST} {service.port}")
    if metrics is not None:
        host = metrics[0] if metrics[0] not in ("", "0.0.0.0", "::") else HOST
        shown = f"[{host}]" if ":" in host else host
        lines.append(f"  {'metrics':8} curl http://{shown}:{metrics[1]}/metrics")
    return "\n".join([*lines, ""])


def _free_ports(wanted: int) -> list[int]:
    """The first free ports from FIRST_PORT on, so that the lines to paste stay the same where nothing is in the way."""
    found: list[int] = []
    for port in count(FIRST_PORT):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == wanted:
            return found
    raise OSError("no free port")
