"""Driving bench/build/load: one measured run, or connections that are held open."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench import procs
from bench.build import BUILD
from bench.servers import Server

LOAD = str(BUILD / "load")
WARM_UP = 0.2  # seconds of unrecorded load before each measured run
PROCESSES = len(os.sched_getaffinity(0))  # that share the clients: one alone would be what fast servers wait for
Sample = dict[str, float]


@dataclass(frozen=True)
class Drive:
    """What the clients do: *at_once* connections open at most; *pace* is starts per second (0: as fast
    as answers come); *bulk* bytes are sent and must come back."""

    expect: str = "hello\n"
    at_once: int = 32
    pace: float = 0
    refused: bool = False
    bulk: int = 0

    def command(self, port: int, seconds: float) -> list[str]:
        """The generator's argv, for so many *seconds* of load."""
        words = [LOAD, "-p", str(port), "-s", str(seconds), "-c", str(self.at_once)]
        if self.pace:
            words += ["-R", str(self.pace)]
        else:
            words += ["-j", str(min(self.at_once, PROCESSES))]
        if self.bulk:
            words += ["-b", str(self.bulk)]
        elif self.refused:
            words += ["-x"]
        else:
            words += ["-e", self.expect]
        return words


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def measure_load(server: Server, port: int, seconds: float, drive: Drive) -> Sample:
    """Warm up, load the server for *seconds*, and read what it cost.

    rate: connections per second; first_*, end_*: microseconds from connect (paced: from when it was due)
    to the first byte and to the end; answer_*: from connect to the first byte, paced or not; cpu_us,
    client_us: processor microseconds per connection of the server's tree and of the load generator;
    client_cores: processors the generator kept busy; errors: connections not answered as expected;
    mb_s: 10^6 bytes per second received.
    """
    _run(drive.command(port, WARM_UP))
    before = procs.cpu_seconds(server.pid)
    report = _run(drive.command(port, seconds))
    used = procs.cpu_seconds(server.pid) - before
    sample = {
        "rate": report["rate"],
        "count": report["ok"],
        "errors": sum(report["errors"].values()),
        **{f"errors_{kind}": number for kind, number in report["errors"].items() if number},
    }
    if not (ok := report["ok"]):
        return sample  # nothing was served: no latency, no cost of one
    first, end = report["first_us"], report["end_us"]
    sample |= {
        "end_p50": end["p50"],
        "end_p99": end["p99"],
        "cpu_us": used / ok * 1e6,
        "client_us": report["cpu_seconds"] / ok * 1e6,
        "client_cores": report["cpu_seconds"] / report["seconds"],
        "mb_s": report["bytes"] / report["seconds"] / 1e6,
    }
    if first["max"]:  # a refused client never sees a first byte
        sample |= {f"first_{key}": first[key] for key in ("p50", "p99", "max")}
        sample |= {f"answer_{key}": report["answer_us"][key] for key in ("p50", "p99")}
    return sample


class HoldError(Exception):
    """Connections that should have stayed open did not."""


@contextlib.contextmanager
def hold_connections(port: int, count: int, ports: int = 1) -> Iterator[None]:
    """Keep *count* connections open, spread over *ports* consecutive ports from *port*.

    The block begins when each has received its first byte, so each has its server running. Raises
    HoldError when some could not be opened, or were lost before the block's end.
    """
    command = [LOAD, "-p", str(port), "-P", str(ports), "-H", str(count), "-e", "idle\n", "-T", "60"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        try:
            first = json.loads(process.stdout.readline() or "{}")
            if first.get("ok") != count:
                raise HoldError(f"{first.get('ok', 0)} of {count} connections opened: {first.get('errors')}")
            yield
            process.stdin.close()
            last = json.loads(process.stdout.readline() or "{}")
            if last.get("lost") != 0:
                raise HoldError(f"{last.get('lost')} of {count} open connections were lost")
        finally:
            process.kill()
