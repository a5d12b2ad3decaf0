"""What the tests of this folder do to a daemon, and what they count afterwards."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from support.clients import ask, connect, datagrams
from support.daemon import Daemon, records
from support.proc import process, wait_for

T = TypeVar("T")
Keep = Callable[[T], T]

HELLO = b"hello\n"
ECHO, CAT = "/bin/echo", "/bin/cat"
PID = re.compile(r"pid=(\d+)")


def come(port: int, dgram: bool, keep: Keep[socket.socket]) -> None:
    """Be a client: send a datagram, or connect."""
    if dgram:
        with datagrams() as s:
            s.sendto(b"x", ("127.0.0.1", port))
    else:
        keep(connect(port))


def starts_again_in_vain(daemon: Daemon, port: int, log: Path, dgram: bool, keep: Keep[socket.socket]) -> None:
    """Be the client that the server `x` of a wait service never takes: it is started again, and not as fast as
    possible."""
    begun = time.monotonic()
    come(port, dgram, keep)
    wait_for(lambda: len(records(log, "START", "x")) >= 5, daemon.said)
    assert time.monotonic() - begun > 0.6


class Load:
    """Clients without a break from several threads, until `end`."""

    def __init__(self, port: int, threads: int = 4, wanted: bytes = HELLO, says: bytes = b"") -> None:
        self.wanted = wanted
        self.says = says
        self.answers: list[object] = []
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(ask(self._port, self.says))
            except (OSError, AssertionError) as error:
                self.answers.append(repr(error))
                self._over.wait(0.02)  # nobody listens: leave the machine to who will

    def more(self, count: int) -> None:
        """Return after so many further clients."""
        wanted = len(self.answers) + count
        wait_for(lambda: len(self.answers) >= wanted, lambda: f"{count} more clients: {self.answers[-5:]}", 60)

    def end(self) -> list[object]:
        """Stop the clients; returns the answers that were not the wanted one."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        return [answer for answer in self.answers if answer != self.wanted]


def kill_at(pid: int, call: str, number: int) -> None:
    """SIGKILL a process at its `number`th system call of this name; returns when it is dead."""
    strace = shutil.which("strace")
    assert strace is not None
    subprocess.run(
        [strace, "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}",
         "-p", str(pid)],
        check=False, timeout=60, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: gone(pid), f"{pid} killed at {call} {number}")


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Keep a process's first thread from going on, without its parent's hearing of it: by ptrace(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for request in (0x4206, 0x4207):  # PTRACE_SEIZE, PTRACE_INTERRUPT
        assert libc.ptrace(request, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(pid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        libc.ptrace(17, pid, None, None)  # PTRACE_DETACH


def gone(pid: int) -> bool:
    each = process(pid)
    return each is None or not each.alive


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


def acceptors(daemon: Daemon) -> list[int]:
    return [pid for name, pid in daemon.roles().items() if name.startswith("acceptor")]


def role(daemon: Daemon, kind: str) -> int:
    """The pid of a role, once it has set its title: a process just forked still has the supervisor's, or half of its
    own."""

    def named() -> int:
        return next((pid for name, pid in daemon.roles().items() if name.startswith(kind)), 0)

    return wait_for(named, daemon.said)


def replaced(daemon: Daemon, victim: int, count: int) -> None:
    """Wait until there are `count` roles again, the victim not among them (the supervisor is one)."""
    wait_for(lambda: len(daemon.roles()) >= count and victim not in daemon.roles().values(), daemon.said)


def consistent(daemon: Daemon) -> None:
    """Assert that the daemon itself finds its counts right."""
    before = daemon.said().count("Consistency check")
    daemon.send(signal.SIGABRT)
    wait_for(lambda: daemon.said().count("Consistency check") > before, "the consistency check")
    last = [line for line in daemon.said().splitlines() if "Consistency check" in line][-1]
    assert "passed" in last, last


def become(entry: pwd.struct_passwd) -> None:
    """Make this process the user's, whose other processes may inspect it like any of their own."""
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE


def as_user(entry: pwd.struct_passwd, find: Callable[[], object]) -> object:
    """Call `find` in a process of a user; returns what it found, which must be representable in JSON."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            become(entry)
            os.write(writer, json.dumps(find()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        text = told.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def unbalanced(log: Path, service: str) -> dict[str, tuple[int, int]]:
    """Pids whose numbers of START and EXIT records differ."""
    starts, exits = (
        Counter(found[1] for line in records(log, kind, f"{service} ") if (found := PID.search(line)))
        for kind in ("START", "EXIT")
    )
    return {pid: (starts[pid], exits[pid]) for pid in starts | exits if starts[pid] != exits[pid]}


def await_balance(log: Path, service: str, count: int) -> None:
    """Wait until so many servers were started and have ended, each recorded once."""
    wait_for(
        lambda: len(records(log, "START", f"{service} ")) == count == len(records(log, "EXIT", f"{service} ")),
        lambda: f"{count} START and EXIT records: {[len(records(log, k, service)) for k in ('START', 'EXIT')]}",
    )
    assert not unbalanced(log, service)


def ticks(pid: int) -> int:
    """CPU time used by a process and those it waited for, in clock ticks (hundredths of a second)."""
    each = process(pid)
    assert each is not None
    return each.ticks


def switches(pid: int) -> int:
    """How often a process has gone to sleep."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.MULTILINE)
    assert found
    return int(found[1])


def builtin(name: str, port: int, dgram: bool = False, **more: object) -> str:
    """An entry of a built-in service."""
    attributes = {
        "type": "INTERNAL UNLISTED", "id": f"{name}-{'dgram' if dgram else 'stream'}", "port": port,
        "socket_type": "dgram" if dgram else "stream", "protocol": "udp" if dgram else "tcp",
        "wait": "yes" if dgram else "no", "bind": "127.0.0.1",
    } | more  # fmt: skip
    return "\n".join([f"service {name}", "{", *(f"    {n} = {v}" for n, v in attributes.items()), "}", ""])


def at_rest(pids: Iterable[int], most: int, seconds: float = 1.0, measure: Callable[[int], int] = ticks) -> None:
    """Wait until processes use no more than so much (of processor time, of wake-ups) within so many seconds: whatever
    was under way has happened by then. Fails if they never do."""
    watched = list(pids)

    def quiet() -> bool:
        before = sum(map(measure, watched))
        threading.Event().wait(seconds)
        return sum(map(measure, watched)) - before <= most

    wait_for(quiet, lambda: f"{watched} at rest", 60)
