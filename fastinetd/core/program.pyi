"""Programs: how a service's server is started and who may start it, as C arrays."""

from collections.abc import Sequence
from typing import NamedTuple

from typing_extensions import disjoint_base

from fastinetd.core.exec_context import ExecContext

INET_VARIABLES: tuple[str, ...]
DATAGRAM_VARIABLES: tuple[str, ...]
UNIX_VARIABLES: tuple[str, ...]
CONNECTION_VARIABLES: frozenset[str]

WORKER_VARIABLE: bytes

class Pool(NamedTuple):
    kind: int
    least: int
    most: int
    ready_within: int
    spare_after: int
    count_every: int
    workers: int = 0
    requests: int = 0
    age: int = 0
    rss: int = 0
    runtime: int = 0
    files: tuple[bytes, ...] = ()
    library: int = -1
    point: bytes = b"main"
    errors: int = -1
    guard: int = -1

@disjoint_base
class Ranges:
    def __new__(
        cls, ranges4: Sequence[tuple[int, int, int]], ranges6: Sequence[tuple[int, int, int]]
    ) -> Ranges: ...

@disjoint_base
class Program:
    def __init__(
        self,
        row: int,
        context: ExecContext,
        *,
        ranges: Ranges | None = None,
        log_success: int = 0,
        log_failure: int = 0,
        unix_socket: bool = False,
        datagrams: bool = False,
        builtin: int = 0,
        pool: Pool | None = None,
        poolless: bool = False,
    ) -> None: ...
    @property
    def row(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def errors(self) -> int: ...
