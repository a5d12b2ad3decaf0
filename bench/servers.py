"""Starting a server on free ports, and ending it by its own pid and nothing else."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import procs

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 20.0  # seconds until the last port must answer
STOP_TIMEOUT = 10.0  # seconds between SIGTERM and SIGKILL


class ServerError(Exception):
    """A server did not start, died, or did not do what the scenario needs."""


@dataclass(frozen=True)
class Service:
    """One TCP service on 127.0.0.1: what every super-server is asked to offer, and in *attributes* what
    only fastinetd has; they stand above the ones every service gets. No *program*: a `handler` serves."""

    name: str
    port: int
    program: str
    args: tuple[str, ...] = ()
    only_from: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A running server. *started* is the time in seconds from exec to its last port answering."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    started: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        """The end of what the server wrote, on one line, for a message."""
        lines = self.log.read_text(errors="replace").split("\n")[-4:]
        return " | ".join(line.strip() for line in lines if line.strip())


def find_free_ports(count: int) -> list[int]:
    """*count* consecutive ports nobody uses, below the range the kernel hands to clients."""
    text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    top = int(text.split()[0]) if int(text.split()[0]) > 12_000 + count else 65_000
    for _ in range(50):
        first = random.randrange(10_000, top - count)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("", port))
            except OSError:
                continue
            return list(range(first, first + count))
    raise ServerError(f"no {count} free consecutive ports found")


def port_answers(port: int) -> bool:
    """Whether a connection to the port is accepted. It is closed at once, without a byte."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def run_server(
    name: str, command: Sequence[str], ports: Sequence[int], directory: Path, env: Mapping[str, str]
) -> Iterator[Server]:
    """Run *command* until the block ends; enters it when every one of *ports* is listening.

    Raises ServerError when that does not happen in time or the server dies inside the block.
    """
    log = directory / f"{name}.log"
    with log.open("wb") as output:
        begin = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is ours; we then end the server
        )
    server = Server(name, process, log)
    try:
        while not port_answers(ports[-1]):
            if process.poll() is not None or time.monotonic() - begin > START_TIMEOUT:
                state = "ended" if process.poll() is not None else "does not listen"
                raise ServerError(f"{name} {state}: {server.last_words() or 'it said nothing'}")
            time.sleep(0.002)
        server.started = time.monotonic() - begin
        while missing := set(ports) - procs.listening_ports():
            if process.poll() is not None or time.monotonic() - begin > START_TIMEOUT:
                raise ServerError(f"{name} does not listen on {len(missing)} of {len(ports)} ports")
            server.started = time.monotonic() - begin
        yield server
        if process.poll() is not None:
            raise ServerError(f"{name} died (status {process.returncode}): {server.last_words()}")
    finally:
        stop_server(process)


def stop_server(process: subprocess.Popen[bytes]) -> None:
    """End a server by SIGTERM, then by SIGKILL, and in the same way what it leaves behind, each process by its pid and
    birth."""
    family = procs.process_tree(process.pid)
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 2
    while left := [p for p in family if (now := procs.read_process(p.pid)) and now.born == p.born and not now.zombie]:
        if time.monotonic() > deadline:
            for orphan in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan.pid, signal.SIGKILL)
            deadline += 2
        time.sleep(0.01)
