"""A worker that does what its clients tell it, a line each; by the protocol alone, as quick to start as can be.

`pid` answers with its pid, `by` with `worker` or `exec`, `env NAME` with a variable, `fds` with its descriptors;
`status N` is its status at the end of the connection, `eat N` makes it larger by N bytes, `say HEX` goes to the
daemon, `shut` shuts the daemon's socket, `die N` ends it; everything else comes back. The first argument, if it has
one, is what it does before it says that it is ready: `exit N`, `nonsense`, `shut`, `wait PIPE`.
"""

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path


def lines(connection: socket.socket) -> Iterator[str]:
    rest = b""
    while part := connection.recv(4096):
        *whole, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in whole)


def serve(connection: socket.socket, variables: Mapping[str, str], daemon: socket.socket | None) -> int:
    status = 0
    for line in lines(connection):
        what, _, value = line.partition(" ")
        if what == "status":
            status = int(value)
        elif what == "eat":
            EATEN.append(b"x" * int(value))
        elif what == "say" and daemon:
            daemon.send(bytes.fromhex(value))
        elif what == "shut" and daemon:
            daemon.shutdown(socket.SHUT_RDWR)
        elif what == "die":
            os._exit(int(value))
        answers = {"pid": str(os.getpid()), "by": "worker" if daemon else "exec", "env": variables.get(value, ""),
                   "fds": " ".join(sorted(os.listdir("/proc/self/fd"), key=int))}
        connection.sendall((answers.get(what, line) + "\n").encode())
    return status


def before_ready(daemon: socket.socket, what: str, value: str = "") -> None:
    if what == "exit":
        os._exit(int(value))
    elif what == "nonsense":
        daemon.send(b"nonsense")
    elif what == "shut":
        daemon.shutdown(socket.SHUT_RDWR)
    elif what == "wait":
        Path(value).read_bytes()


EATEN: list[bytes] = []
if "FASTINETD_WORKER" not in os.environ:
    sys.exit(serve(socket.socket(fileno=0), os.environ, None))
with socket.socket(fileno=int(os.environ["FASTINETD_WORKER"])) as end:
    if len(sys.argv) > 1:
        before_ready(end, *sys.argv[1].split())
    status = 0
    while True:
        try:
            end.sendall(status.to_bytes(4, sys.byteorder), socket.MSG_NOSIGNAL)
        except BrokenPipeError:
            break
        message, descriptors, _, _ = socket.recv_fds(end, 4096, 1)
        if not message:
            break
        with socket.socket(fileno=descriptors[0]) as client:
            pairs = [item.split("=", 1) for item in message.decode().split("\0") if item]
            status = serve(client, dict(pairs), end)
