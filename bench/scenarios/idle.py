"""A thousand services and no client: what it takes to start, to wait, and to change one of them."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import replace

from bench import procs
from bench.load import Sample
from bench.scenario import Bench, Case, Column, Target
from bench.servers import Server, ServerError, Service

SUMMARY = "1,000 services, no clients: start, wake-ups, memory, reload of one"
COLUMNS = (
    Column("started_s", "start s", 3),
    Column("reload_s", "reload s", 3),
    Column("lost", "lost in reload"),
    Column("wakeups_s", "wake-ups/s", 2),
    Column("pss_mb", "PSS MB", 1),
)
BASELINE = "xinetd"
TARGETS = (
    Target("fastinetd", "started_s", at_most=2.0),
    Target("fastinetd", "reload_s", at_most=0.5),
)
MAX_ROUNDS = 4  # the least that `compare` can tell anything from
SERVICES = 1000
WATCH = 20.0  # seconds; a tenth of it when measurements are shorter than a second and a half
RELOAD_TIMEOUT = 20.0
CONTENDERS = ("fastinetd", "xinetd", "inetd")


def ask(port: int) -> bytes:
    """What the service says, to the end; b"" when the connection was refused or lost."""
    said = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            while part := connection.recv(100):
                said += part
    except OSError:
        return b""
    return said


def reload(bench: Bench, server: Server, services: list[Service]) -> tuple[float, int]:
    """Change what the middle service answers, tell the server, and ask until the new answer comes.

    Returns the seconds from SIGHUP to then, and how many questions in between got no answer at all.
    """
    at = len(services) // 2
    changed = replace(services[at], args=("changed",))
    bench.rewrite(server, [*services[:at], changed, *services[at + 1 :]])
    lost, begin = 0, time.monotonic()
    os.kill(server.pid, signal.SIGHUP)
    while (answer := ask(changed.port)) != b"changed\n":
        if answer not in (b"", b"hello\n"):
            raise ServerError(f"{server.name} answered {answer!r} during a reload")
        if time.monotonic() - begin > RELOAD_TIMEOUT:
            raise ServerError(f"{server.name} still gives the old answer {RELOAD_TIMEOUT:.0f} s after SIGHUP")
        lost += not answer
        time.sleep(0.002)
    return time.monotonic() - begin, lost


def cases(bench: Bench) -> dict[str, Case]:
    watch = WATCH if bench.seconds >= 1.5 else WATCH / 10

    def case(name: str) -> Case:
        def measure() -> Sample:
            services = bench.services(SERVICES)
            with bench.server(name, services) as server:
                time.sleep(0.5)  # the server started for our probe of the last port has come and gone
                before = procs.wakeups(server.pid)
                time.sleep(watch)
                woken = procs.wakeups(server.pid) - before
                memory = procs.pss_bytes(server.pid)
                took, lost = reload(bench, server, services)
                return {
                    "started_s": server.started,
                    "wakeups_s": woken / watch,
                    "pss_mb": memory / 1e6,
                    "processes": len(procs.process_tree(server.pid)),
                    "reload_s": took,
                    "lost": lost,
                }

        return measure

    return {name: case(name) for name in CONTENDERS if name in bench.peers}
