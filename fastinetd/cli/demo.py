"""`fastinetd --demo`: three services to try, on free high ports of the loopback address."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import sys
from itertools import count

from fastinetd.config.model import Config, Place, Service

HOST = "127.0.0.1"
"""The address of the demo's services."""
FIRST_PORT = 17007
"""The lowest port of the demo's services."""

SCRIPT = 'echo "Hello $REMOTE_ADDR from process $$, started for you by fastinetd."'
"""The script of the started program; any program that uses its standard input and output would do."""


def make_configuration() -> Config:
    """The Config of --demo: echo and daytime, built in, and `hello`, a program started for each connection."""
    ports = _find_ports(3)
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    place = Place("--demo", 1)

    def service(name: str, port: int, **values: object) -> Service:
        """A service on a port of the loopback address, with further fields."""
        internal = frozenset({"UNLISTED"}) if "server" in values else frozenset({"INTERNAL", "UNLISTED"})
        return Service(name, name, place, types=internal, port=port, bind=(HOST,), **values)  # type: ignore[arg-type]

    return Config(
        "--demo",
        (
            service("echo", ports[0]),
            service("daytime", ports[1]),
            service("hello", ports[2], user=user, server="/bin/sh", argv=("sh", "-c", SCRIPT)),
        ),
    )


def instructions(config: Config, metrics: tuple[str, int] | None) -> str:
    """Text with a command for each service, and for the metrics, made of programs that this machine has."""
    lines = ["fastinetd --demo serves, until Control-C:", ""]
    for service in config.services:
        says = "are you there?" if service.id == "echo" else ""
        lines.append(f"  {service.id:8} {_client_command(service.port or 0, says=says)}")
    if metrics is not None:
        host = metrics[0] if metrics[0] not in ("", "0.0.0.0", "::") else HOST
        lines.append(f"  {'metrics':8} {_metrics_command(host, metrics[1])}")
    return "\n".join([*lines, ""])


def _client_command(port: int, says: str) -> str:
    """A command that connects, sends the line `says` unless it is empty, and prints the answer.

    With OpenBSD's nc, or else with bash or Python alone: other programs called nc have no -N, or do not end without it.
    """
    if "openbsd" in os.path.realpath(shutil.which("nc") or ""):
        return f"echo '{says}' | nc -N {HOST} {port}" if says else f"nc {HOST} {port}"
    if shutil.which("bash"):
        talk = f'; echo "{says}" >&3' if says else ""
        return f"bash -c 'exec 3<>/dev/tcp/{HOST}/{port}{talk}; read -r answer <&3; echo \"$answer\"'"
    talk = f's.sendall(b"{says}\\n"); ' if says else ""
    connect = f'import socket; s = socket.create_connection(("{HOST}", {port}))'
    return f"{shlex.quote(sys.executable)} -c '{connect}; {talk}print(s.makefile().readline(), end=\"\")'"


def _metrics_command(host: str, port: int) -> str:
    """A command that prints the metrics: with curl, or else with Python alone."""
    url = f"http://[{host}]:{port}/metrics" if ":" in host else f"http://{host}:{port}/metrics"
    if shutil.which("curl"):
        return f"curl {url}"
    return f"{shlex.quote(sys.executable)} -c 'import urllib.request as r; print(r.urlopen(\"{url}\").read().decode())'"


def _find_ports(wanted: int) -> list[int]:
    """The first free ports from FIRST_PORT on: the same ones at each start, if no other process takes them."""
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
