"""What a scenario is, and what it is given.

A scenario is a module with SUMMARY (one line), COLUMNS (what the table shows), TARGETS (what it
checks), BASELINE (the case ratios are taken against) and `cases(bench)`: a function per case that
makes one measurement from nothing (start the server, drive it, end it) and returns a Sample. The
runner calls the cases in turn, round after round; it knows nothing else about them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.load import Drive, Sample, measure_load
from bench.peers import BARE, PEERS, Peer, User
from bench.servers import Server, Service, find_free_ports, run_server

Case = Callable[[], Sample]
PLAIN = Drive()


@dataclass(frozen=True)
class Column:
    """One column of the table: *key* of the sample, heading with the unit, digits after the point."""

    key: str
    heading: str
    digits: int = 0
    scale: float = 1


RATE_COLUMNS = (
    Column("rate", "conn/s"),
    Column("first_p50", "first p50 ms", 2, 1e-3),
    Column("first_p99", "p99 ms", 2, 1e-3),
    Column("end_p50", "end p50 ms", 2, 1e-3),
    Column("end_p99", "p99 ms", 2, 1e-3),
    Column("cpu_us", "CPU us/conn"),
)


@dataclass(frozen=True)
class Target:
    """*metric* of *case*, divided by the same of *over* where given, within the bound.

    A ratio is taken round by round, between measurements made one after the other; the median counts.
    """

    case: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    over: str | None = None

    def __str__(self) -> str:
        what = f"{self.metric} of {self.case}" + (f" / {self.over}" if self.over else "")
        bound = f">= {self.at_least}" if self.at_least is not None else f"<= {self.at_most}"
        return f"{what} {bound}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target of a text such as records have (`str` of one). Raises ValueError."""
        found = re.fullmatch(r"(\w+) of (.+?)(?: / (.+))? ([<>])= (\S+)", text)
        if not found:
            raise ValueError(f"not a target: {text}")
        metric, case, over, sign, bound = found.groups()
        return cls(case, metric, **{"at_least" if sign == ">" else "at_most": float(bound)}, over=over)

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


class Scenario(Protocol):
    """The module. It may also have MAX_ROUNDS, where more rounds would tell nothing new; base(case), the case
    that ratios of *case* are taken against where that is not always BASELINE; and notes(bench), lines for the
    record about what this machine made different."""

    SUMMARY: str
    COLUMNS: tuple[Column, ...]
    TARGETS: tuple[Target, ...]
    BASELINE: str

    def cases(self, bench: Bench) -> Mapping[str, Case]: ...


@dataclass
class Bench:
    """What scenarios are given: the programs servers start, the peers found, and how long to measure."""

    seconds: float
    directory: Path
    programs: Mapping[str, str]
    user: User = field(default_factory=User.choose)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @functools.cached_property
    def peers(self) -> dict[str, Peer]:
        """The servers that are installed, by name."""
        return {peer.name: peer for peer in PEERS if peer.find()}

    def services(
        self,
        count: int,
        program: str = "hello",
        only_from: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> list[Service]:
        """*count* services on free consecutive ports, all starting *program* ("": an attribute says what serves)."""
        path = self.programs[program] if program else ""
        own = attributes or {}
        return [Service(f"bench-{port}", port, path, (), only_from, own) for port in find_free_ports(count)]

    @contextlib.contextmanager
    def server(
        self,
        name: str,
        services: Sequence[Service],
        module: str = "",
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Iterator[Server]:
        """The named peer, serving *services* until the block ends. *module* is run instead of
        fastinetd's own, with the same arguments and *options* after them; *env* is added to the environment."""
        peer = {each.name: each for each in BARE}.get(name) or self.peers[name]
        directory = self.directory / f"{next(self.numbers)}-{name}"
        directory.mkdir()
        peer.write(directory, services, self.user)
        command = [*peer.command(peer.find() or "", directory, services, self.user), *options]
        if module:
            command[command.index("fastinetd")] = module
        with run_server(name, command, [s.port for s in services], directory, {**peer.env, **(env or {})}) as it:
            yield it

    def rewrite(self, server: Server, services: Sequence[Service]) -> None:
        """Change a running server's configuration on disk."""
        self.peers[server.name].write(server.log.parent, services, self.user)

    def rate(self, name: str, services: Sequence[Service], drive: Drive = PLAIN) -> Sample:
        """The plain measurement: load on the last of *services*, with nothing else going on."""
        with self.server(name, services) as server:
            return self.drive(server, services[-1], drive)

    def drive(self, server: Server, service: Service, drive: Drive = PLAIN) -> Sample:
        """One measured run against one service of a running server."""
        return measure_load(server, service.port, self.seconds, drive)
