"""The acceptor's part towards a held program (`stage/stage.h`), played in Python."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastinetd.system.processes import list_children
from support.c import STRICT
from support.clients import everything, tcp_pair
from support.proc import PATIENCE, wait_for
from support.reach import reachable

PACKAGE = Path(__file__).parents[2] / "fastinetd"
LIBRARY = PACKAGE / "stage" / f"_stage{sysconfig.get_config_var('EXT_SUFFIX')}"
BIND = "LD_BIND_NOW=fastinetd"
HEADER = PACKAGE / "stage" / "stage.h"
NUMBERS = dict(re.findall(r"(?m)^#define STAGE_(\w+) (\d+) ", HEADER.read_text()))
PLACES, ROOM = int(NUMBERS["PLACES"]), int(NUMBERS["ROOM"])
PINS, VOICE, CONTROL, HAND = 60, 61, 62, 63
FORK, PARK, TAKE, LEAVE, READY, TOOK, PARKED, FAILED, REFUSED = range(1, 10)
AT_MAIN, AT_IO, AT_OTHER, NOT_FURTHER = range(4)
THREADS, FILES = 1, 2
VARIABLES = ("REMOTE_HOST=192.0.2.7", "PROTO=TCP", "SERVER_NAME=probe")

libc = ctypes.CDLL(None, use_errno=True)


def strings(items: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(items) + 1))(*[os.fsencode(item) for item in items], None)


def compiled(folder: Path, source: str, *options: str, compiler: str = "gcc") -> str:
    """Compile a program in C; returns its path."""
    path = folder / f"program-{len(list(folder.iterdir()))}"
    path.with_suffix(".c").write_text(source)
    subprocess.run(
        [compiler, "-O1", *STRICT, str(path.with_suffix(".c")), "-o", str(path), "-pthread", *options], check=True
    )
    return str(path)


def started(
    argv: Sequence[str], environment: Sequence[str], descriptors: dict[int, int], before: Callable[[], object] | None
) -> int:
    """Fork and execve as core/spawn.h would: a session of its own, cwd /, these descriptors and no others."""
    arguments, variables = strings(argv), strings(environment)
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.chdir("/")
        high = {number: os.dup(fd) for number, fd in descriptors.items()}
        assert not set(high.values()) & set(descriptors)
        for number, fd in high.items():
            os.dup2(fd, number)
        for number in range(3, 1024):
            if number not in descriptors:
                try:  # noqa: SIM105
                    os.close(number)
                except OSError:
                    pass
        if before is not None:
            before()
        libc.execve(os.fsencode(argv[0]), arguments, variables)
    finally:
        os._exit(127)


@dataclass(frozen=True)
class Said:
    kind: int
    seq: int
    value: int
    pid: int  # the sender's, as the kernel says


def executed(
    argv: Sequence[str], environment: Sequence[str] = (), *, before: Callable[[], object] | None = None,
    send: bytes = b"", variables: Sequence[str] = VARIABLES,
) -> bytes:  # fmt: skip
    """What a client gets from the same program by execve."""
    client, server = tcp_pair()
    with client, server:
        pid = started(argv, [*environment, *variables], {0: server.fileno(), 1: server.fileno(), 2: server.fileno()},
                      before)
        server.close()
        client.sendall(send)
        client.shutdown(socket.SHUT_WR)
        said = everything(client)
    os.waitpid(pid, 0)
    return said


class Held:
    """A zygote and its children."""

    def __init__(
        self, argv: Sequence[str], environment: Sequence[str] = (), *, snapshot: str = "main", preload: str = "",
        before: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        self.strangers = {*list_children()}
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.hand, hand = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.voice, voice = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        place, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (self.control, self.voice):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            end.settimeout(PATIENCE)
        library = f"LD_PRELOAD={reachable(LIBRARY)}" + (f":{preload}" if preload else "")
        places = ["=" * (ROOM - 1)] * PLACES
        with control, hand, voice, place:
            other.close()
            fds = {0: place, 1: place, 2: place, VOICE: voice, CONTROL: control, HAND: hand}
            self.pid = started(
                argv, [*environment, library, BIND, *places, f"FASTINETD_STAGE={snapshot}"],
                {number: end.fileno() for number, end in fds.items()}, before,
            )  # fmt: skip
        self.seq = 0
        self.calls = 0  # that the program made after main before it was held
        self.children: set[int] = set()

    def hear(self, end: socket.socket | None = None) -> Said | None:
        """The next message of the zygote or a child; None at the end of file."""
        message, ancillary, _, _ = (end or self.control).recvmsg(64, 256)
        if not message:
            return None
        kind, seq, value = struct.unpack("IIi", message)
        pids = [struct.unpack("iii", data)[0] for _, what, data in ancillary if what == socket.SCM_CREDENTIALS]
        if kind in (TOOK, PARKED):
            self.children.add(pids[0])
        if kind == READY:
            seq, self.calls = seq & 0xFF, seq >> 8
        return Said(kind, seq, value, pids[0])

    def next_end(self) -> tuple[int, int]:
        """Pid and wait status of the next of its processes that ends. What other tests have left is not waited for."""

        def found() -> tuple[int, int] | None:
            looks = (os.waitpid(pid, os.WNOHANG) for pid in {*list_children()} - self.strangers)
            return next((each for each in looks if each[0]), None)

        ended = wait_for(found, "one of them ends")
        assert ended is not None
        return ended

    def ready(self) -> Said:
        said = self.hear()
        assert said is not None and said.kind == READY, said
        return said

    def ask(
        self, kind: int, server: socket.socket | None = None, variables: Sequence[str] = (),
        end: socket.socket | None = None,
    ) -> int:  # fmt: skip
        self.seq += 1
        message = struct.pack("II", kind, self.seq) + b"".join(os.fsencode(text) + b"\0" for text in variables)
        socket.send_fds(end or self.control, [message], [server.fileno()] if server else [])
        return self.seq

    def serve(self, send: bytes = b"", variables: Sequence[str] = VARIABLES) -> tuple[bytes, int]:
        """Have one connection served; returns what the client got and the server's wait status."""
        client, pid = self.open(variables)
        with client:
            client.sendall(send)
            client.shutdown(socket.SHUT_WR)
            said = everything(client)
        return said, self.ended(pid)

    def open(self, variables: Sequence[str] = VARIABLES) -> tuple[socket.socket, int]:
        """The client's end of a connection, and its server's pid."""
        client, server = tcp_pair()
        with server:
            seq = self.ask(FORK, server, variables)
        said = self.hear()
        assert said is not None and (said.kind, said.seq) == (TOOK, seq), said
        return client, said.pid

    def park(self) -> int:
        seq = self.ask(PARK)
        said = self.hear(self.voice)
        assert said is not None and (said.kind, said.seq) == (PARKED, seq), said
        return said.pid

    def take(self, variables: Sequence[str] = VARIABLES) -> tuple[socket.socket, int]:
        client, server = tcp_pair()
        with server:
            seq = self.ask(TAKE, server, variables, self.hand)
        said = self.hear(self.voice)
        assert said is not None and (said.kind, said.seq) == (TOOK, seq) and said.value > 0, said
        return client, said.pid

    def ended(self, pid: int) -> int:
        _, status, _ = os.wait4(pid, 0)
        self.children.discard(pid)
        return status

    def descriptors(self) -> set[int]:
        """The zygote's descriptors, but for the one that may keep its pages."""
        return {int(name) for name in os.listdir(f"/proc/{self.pid}/fd")} - {PINS}

    def hang_up(self) -> None:
        for end in (self.control, self.hand, self.voice):
            end.close()

    def close(self) -> int:
        """Close the sockets, which is the end for all; returns the zygote's wait status."""
        self.hang_up()
        for pid in list(self.children):
            self.ended(pid)
        return os.waitpid(self.pid, 0)[1]


@contextmanager
def held(argv: Sequence[str], environment: Sequence[str] = (), **options: object) -> Iterator[Held]:
    """A zygote that in the end leaves by itself."""
    zygote = Held(argv, environment, **options)  # type: ignore[arg-type]
    try:
        yield zygote
    except BaseException:
        for pid in (*zygote.children, zygote.pid):
            os.kill(pid, 9)
        raise
    finally:
        status = zygote.close()
    assert status == 0, status
