"""Configuration text: one service, written as an xinetd entry, an inetd.conf line or a TOML table."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ME = pwd.getpwuid(os.geteuid()).pw_name


@dataclass(frozen=True)
class Service:
    """What all kinds of configuration can say. `port` is a path for a unix socket."""

    name: str
    port: int | str
    server: str | Path
    args: str = ""
    wait: bool = False
    dgram: bool = False
    user: str = ME
    address: str = "127.0.0.1"
    more: dict[str, object] = field(default_factory=dict)
    """Further attributes; inetd.conf has only those of a pool, in the field of the program."""

    def attributes(self) -> dict[str, object]:
        unix = isinstance(self.port, str)
        place = {"bind": self.port} if unix else {"port": self.port, "bind": self.address}
        found: dict[str, object] = {
            "type": "UNLISTED",
            "socket_type": "dgram" if self.dgram else "stream",
            "protocol": "unix" if unix else "udp" if self.dgram else "tcp",
            "wait": "yes" if self.wait else "no",
            "user": self.user,
            "server": self.server,
            **place,
        }
        if self.args:
            found["server_args"] = self.args
        return found | self.more

    def xinetd(self) -> str:
        lines = [f"    {name} = {value}" for name, value in self.attributes().items()]
        return "\n".join([f"service {self.name}", "{", *lines, "}", ""])

    def toml(self) -> str:
        def written(value: object) -> str:
            return str(value) if isinstance(value, int) else '"' + str(value) + '"'

        lines = [f"{name} = {written(value)}" for name, value in self.attributes().items()]
        return "\n".join([f"[service.{self.name}]", *lines, ""])

    def inetd(self) -> str:
        pool = "".join(f";{name}={value}" for name, value in self.more.items())
        unix = isinstance(self.port, str)
        where = self.port if unix else f"{self.address}:{self.port}"
        protocol = "unix" if unix else "udp" if self.dgram else "tcp"
        kind = "dgram" if self.dgram else "stream"
        wait = "wait" if self.wait else "nowait"
        name = Path(self.server).name
        return f"{where} {kind} {protocol} {wait} {self.user} {self.server}{pool} {name} {self.args}\n"


def entry(name: str, port: int | str, server: str | Path, args: str = "", **more: Any) -> str:
    """An xinetd entry for a stream service; `more` replaces and adds attributes."""
    return Service(name, port, server, args, more=more).xinetd()


def defaults(log: Path | None = None, **more: object) -> str:
    """A defaults block without a rate limit; `log` takes the records of all services with all their fields."""
    found: dict[str, object] = {"cps": "0 0"}
    if log is not None:
        found["log_type"] = f"FILE {log}"
        found["log_on_success"] = "HOST PID EXIT DURATION"
        found["log_on_failure"] = "HOST"
    lines = [f"    {name} = {value}" for name, value in (found | more).items()]
    return "\n".join(["defaults", "{", *lines, "}", ""])
