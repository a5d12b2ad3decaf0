"""The servers that are compared, each as the command line and configuration that make it serve.

Every one gets the same job at its own best: limits that would slow or stop it are lifted, its log is
off, its listen queue is long where it has an option for that (xinetd has none: 64).
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.build import BUILD
from bench.servers import ROOT, Service

# Packages unpacked here are found too, for those that exclude each other (xinetd and openbsd-inetd).
UNPACKED = BUILD / "peers"


@dataclass(frozen=True)
class User:
    """Who the started programs run as: nobody, or ourselves when we may not switch."""

    name: str
    uid: int
    gid: int
    switched: bool

    @classmethod
    def choose(cls) -> User:
        own = pwd.getpwuid(os.geteuid())
        entry = pwd.getpwnam("nobody") if own.pw_uid == 0 else own
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, own.pw_uid == 0)


Write = Callable[[Path, Sequence[Service], User], None]
Command = Callable[[str, Path, Sequence[Service], User], list[str]]


@dataclass(frozen=True)
class Peer:
    """One server. *command* makes its argv from the binary, the directory *write* filled, and the job."""

    name: str
    package: str  # the Debian package, or "" for what comes with this project
    binary: str
    command: Command
    write: Write
    switches_user: bool = True
    env: dict[str, str] = field(default_factory=dict)

    def find(self) -> str | None:
        """The path of the server's binary, or None when it is not installed."""
        if self.name == "fastinetd":
            return sys.executable if fastinetd_built() else None
        if Path(self.binary).is_absolute():
            return self.binary
        where = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
        where += [str(UNPACKED / part) for part in ("usr/sbin", "usr/bin")]
        return shutil.which(self.binary, path=os.pathsep.join(where))

    def missing(self) -> str:
        """The line that tells how to get a server that is not installed."""
        if self.name == "fastinetd":
            return "fastinetd: not built in this checkout (make)"
        return f"{self.name}: not found (Debian: apt-get install {self.package})"


@functools.cache
def fastinetd_built() -> bool:
    """Whether the program and its compiled core can be imported from this checkout."""
    return all(
        importlib.util.find_spec(name) is not None for name in ("fastinetd", "fastinetd.cli.main", "fastinetd._accept")
    )


# --- configurations ---------------------------------------------------------------------------------


def xinetd_service(service: Service, user: User) -> str:
    """One service block; fastinetd and xinetd read the same text, unless the service has attributes of its own."""
    lines = {
        "type": "UNLISTED",
        "socket_type": "stream",
        "protocol": "tcp",
        "wait": "no",
        "user": user.name,
        "bind": "127.0.0.1",
        "port": str(service.port),
        "server": service.program,
        "server_args": " ".join(service.args),
        "instances": "UNLIMITED",
        "per_source": "UNLIMITED",
        "cps": "1000000 1",
        "only_from": service.only_from or "",
        "disable": "no",
        **service.attributes,
    }
    body = "".join(f"    {key} = {value}\n" for key, value in lines.items() if value)
    return f"service {service.name}\n{{\n{body}}}\n"


def write_xinetd(directory: Path, services: Sequence[Service], user: User) -> None:
    """xinetd.conf and one file per service in services/. Only files whose text changes are written,
    so writing a changed list again is what an administrator's edit is."""
    parts = directory / "services"
    parts.mkdir(exist_ok=True)
    write_changed(directory / "xinetd.conf", f"defaults\n{{\n}}\nincludedir {parts}\n")
    for service in services:
        write_changed(parts / service.name, xinetd_service(service, user))


def write_inetd(directory: Path, services: Sequence[Service], user: User) -> None:
    """inetd.conf, one line per service. argv[0] is the program's own name."""
    lines = []
    for service in services:
        argv = " ".join((Path(service.program).name, *service.args))
        lines.append(f"127.0.0.1:{service.port} stream tcp nowait {user.name} {service.program} {argv}\n")
    write_changed(directory / "inetd.conf", "".join(lines))


def write_nothing(directory: Path, services: Sequence[Service], user: User) -> None:
    """For servers that take everything on the command line."""


def write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


# --- command lines ----------------------------------------------------------------------------------


def fastinetd(
    binary: str, directory: Path, services: Sequence[Service], user: User, module: str = "fastinetd"
) -> list[str]:
    paths = ["-f", str(directory / "xinetd.conf"), "-dontfork", "-pidfile", str(directory / "pid")]
    return [binary, "-m", module, *paths]


def xinetd(binary: str, directory: Path, services: Sequence[Service], user: User) -> list[str]:
    paths = ["-f", str(directory / "xinetd.conf"), "-pidfile", str(directory / "pid")]
    return [binary, "-dontfork", *paths]


def reference(binary: str, directory: Path, services: Sequence[Service], user: User) -> list[str]:
    """ceiling.c; a service that refuses everybody is, for the reference, accept and close."""
    (service,) = services
    command = [binary, "-s", "-l", str(service.port)]
    if user.switched:
        command += ["-u", str(user.uid), "-g", str(user.gid)]
    if service.only_from:
        command.append("-r")
    return [*command, service.program, *service.args]


def bare(*options: str) -> Command:
    """A server of inprocess.c, which has one answer and starts no program."""

    def command(binary: str, directory: Path, services: Sequence[Service], user: User) -> list[str]:
        (service,) = services
        switch = ["-u", str(user.uid), "-g", str(user.gid)] if user.switched else []
        return [binary, "-l", str(service.port), *switch, *options]

    return command


def inetd(binary: str, directory: Path, services: Sequence[Service], user: User) -> list[str]:
    """OpenBSD's inetd: -R 0 is not "no limit" (it stops at 256 a minute), a huge number is."""
    return [binary, "-i", "-q", "4096", "-R", "1000000000", str(directory / "inetd.conf")]


def tcpserver(binary: str, directory: Path, services: Sequence[Service], user: User) -> list[str]:
    """tcpserver without name look-ups, without ident, and without a limit that is felt."""
    (service,) = services
    command = [binary, "-H", "-R", "-l", "0", "-c", "100000", "-b", "4096"]
    if user.switched:
        command += ["-u", str(user.uid), "-g", str(user.gid)]
    return [*command, "127.0.0.1", str(service.port), service.program, *service.args]


def socat(binary: str, directory: Path, services: Sequence[Service], user: User) -> list[str]:
    """nofork makes socat's child become the program, with the connection as its 0 and 1."""
    (service,) = services
    program = " ".join((service.program, *service.args))
    switch = f",su={user.name}" if user.switched else ""
    listen = f"TCP-LISTEN:{service.port},bind=127.0.0.1,fork,reuseaddr,backlog=4096"
    return [binary, listen, f"EXEC:{program},nofork{switch}"]


def socket_activate(binary: str, directory: Path, services: Sequence[Service], user: User) -> list[str]:
    """systemd-socket-activate, which cannot switch user: what it starts keeps ours."""
    (service,) = services
    listen = f"127.0.0.1:{service.port}"
    return [binary, "--accept", "--inetd", "-l", listen, service.program, *service.args]


PEERS: tuple[Peer, ...] = (
    Peer("fastinetd", "", "", fastinetd, write_xinetd),
    Peer("reference", "", str(BUILD / "ceiling"), reference, write_nothing),
    Peer("xinetd", "xinetd", "xinetd", xinetd, write_xinetd),
    Peer("inetd", "openbsd-inetd", "inetd", inetd, write_inetd),
    Peer("tcpserver", "ucspi-tcp", "tcpserver", tcpserver, write_nothing),
    Peer("socat", "socat", "socat", socat, write_nothing),
    Peer(
        "socket-activate",
        "systemd",
        "systemd-socket-activate",
        socket_activate,
        write_nothing,
        switches_user=False,
        env={"SYSTEMD_LOG_LEVEL": "err"},
    ),
)

# What no server that starts programs can reach, and the least of what zygotes and workers do. They are no
# super-servers, so scenarios ask for them by name.
IN_PROCESS, FORKS, PASSES = BARE = (
    Peer("in-process", "", str(BUILD / "inprocess"), bare(), write_nothing),
    Peer("fork alone", "", str(BUILD / "inprocess"), bare("-f"), write_nothing),
    Peer("passing alone", "", str(BUILD / "inprocess"), bare("-w", "16"), write_nothing),
)


# --- versions ---------------------------------------------------------------------------------------


def version_of(peer: Peer) -> str:
    """What was measured: the Debian package's version, or this checkout's commit."""
    if not peer.package:
        describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--tags"]
        return _output(describe) or "unknown"
    changelog = UNPACKED / "usr/share/doc" / peer.package / "changelog.Debian.gz"
    if str(UNPACKED) in (peer.find() or "") and changelog.exists():
        with gzip.open(changelog, "rt") as stream:
            found = re.search(r"\((.*?)\)", stream.readline())
        return found[1] if found else "unknown"
    return _output(["dpkg-query", "-W", "-f", "${Version}", peer.package]) or "unknown"


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
