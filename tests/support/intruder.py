"""An ordinary user of the machine who wants a port that is a service's."""

from __future__ import annotations

import socket
import subprocess
import sys
from types import TracebackType
from typing import Self

TRIES = """
import os, select, socket, sys
port, kind, lasting = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
print("begins", flush=True)
while True:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::"),
                         (socket.AF_INET6, "::ffff:127.0.0.1")):
        for options in ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)):
            try:
                with socket.socket(family, kind) as s:
                    for option in options:
                        s.setsockopt(socket.SOL_SOCKET, option, 1)
                    s.bind((host, port))
                    print("bound", host, *options, flush=True)
                    if kind == socket.SOCK_STREAM:
                        s.listen()
                        print("listened", host, *options, flush=True)
            except OSError:
                pass
    if not lasting or select.select([0], [], [], 0)[0]:
        break
"""


def tries(port: int, kind: int = socket.SOCK_STREAM) -> str:
    """What the user can do with a port at this moment: bind it, or nothing ("")."""
    done = subprocess.run([sys.executable, "-IS", "-c", TRIES, str(port), str(int(kind)), "0"],
                          capture_output=True, text=True, check=True)
    return done.stdout.removeprefix("begins\n")


class Intruder:
    """A user who tries a port again and again until the end of `with`; `got` is then what he has had of it."""

    def __init__(self, port: int, kind: int = socket.SOCK_STREAM) -> None:
        self._process = subprocess.Popen([sys.executable, "-IS", "-c", TRIES, str(port), str(int(kind)), "1"],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begins\n"
        self.got = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.got, _ = self._process.communicate("")
