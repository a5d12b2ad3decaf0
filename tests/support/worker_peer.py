"""The daemon's side of a worker's protocol: starts one as an acceptor does, and gives it connections."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from support.clients import read_all, tcp_pair
from support.core import reap
from support.proc import PATIENCE

ROOT = Path(__file__).parents[2]
AT = 3
"""The worker's number of the daemon's socket."""

HANDLER = (sys.executable, "-m", "fastinetd.worker")
VARIABLES = {
    "TCPREMOTEIP": "192.0.2.7", "TCPREMOTEPORT": "4711", "TCPLOCALIP": "192.0.2.1", "TCPLOCALPORT": "7000",
    "PROTO": "TCP", "REMOTE_ADDR": "192.0.2.7", "REMOTE_PORT": "4711", "REMOTE_HOST": "192.0.2.7",
}  # fmt: skip


def _start(argv: Sequence[str], environ: Mapping[str, str], descriptors: Mapping[int, int], errors: Path) -> int:
    """A process with these descriptors (number there -> number here), whose standard error goes to a file."""
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    for number in (0, 1):
        actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
    actions.append((os.POSIX_SPAWN_OPEN, 2, str(errors), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    actions += [(os.POSIX_SPAWN_DUP2, here, there) for there, here in descriptors.items()]
    everything = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environ}
    fresh = [signal.SIGPIPE, signal.SIGXFSZ]  # which Python ignores
    return os.posix_spawn(argv[0], list(argv), everything, file_actions=actions, setsigdef=fresh, setsid=True)


class WorkerPeer:
    """A started worker. `with` ends it."""

    def __init__(self, argv: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.errors = folder / "stderr"
        self.socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        if far.fileno() == AT:  # posix_spawn would leave it closed on exec
            moved = far.dup()
            far.close()
            far = moved
        with far:
            self.pid = _start(argv, {"FASTINETD_WORKER": str(AT), **(environ or {})}, {AT: far.fileno()}, self.errors)

    def status(self) -> int | None:
        """The status that comes with the worker's next "ready"; None at the end of file."""
        try:
            said = self.socket.recv(100)
        except ConnectionResetError:
            return None
        return struct.unpack("=i", said)[0] if said else None

    def hand(self, connection: socket.socket, variables: Mapping[str, str] = VARIABLES) -> None:
        """Give the worker a connection, and close this process's copy of it."""
        data = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in variables.items())
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection.fileno()]))
        self.socket.sendmsg([data], [rights])
        connection.close()

    def connect(self, variables: Mapping[str, str] = VARIABLES) -> socket.socket:
        """A client whose connection the worker has been given."""
        client, server = tcp_pair()
        self.hand(server, variables)
        return client

    def ask(self, request: bytes = b"", variables: Mapping[str, str] = VARIABLES) -> bytes:
        """All that a client gets that sends a request and nothing more."""
        with self.connect(variables) as client:
            with suppress(OSError):  # a worker that does not read has closed it already
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def descriptors(self) -> dict[str, str]:
        return {path.name: str(path.readlink()) for path in Path(f"/proc/{self.pid}/fd").iterdir()}

    def end(self) -> int:
        """Close the worker's socket; returns the worker's exit status."""
        self.socket.close()
        return reap(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        try:
            pid, _status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return  # a test has seen its end
        if pid == 0:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def serve_once(
    argv: Sequence[str], folder: Path, request: bytes = b"", variables: Mapping[str, str] = VARIABLES,
    environ: Mapping[str, str] | None = None,
) -> tuple[bytes, int]:  # fmt: skip
    """Start a worker for one connection on 0, 1 and 2, as exec does: what the client gets, and the exit status."""
    client, server = tcp_pair()
    with client:
        with server:
            fd = server.fileno()
            pid = _start(argv, {**variables, **(environ or {})}, {0: fd, 1: fd, 2: fd}, folder / "stderr")
        with suppress(OSError):
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        got = read_all(client)
    return got, reap(pid)
