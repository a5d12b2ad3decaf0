"""Programs: how a service's server is started and who may start it, as C arrays."""

from collections.abc import Sequence

from typing_extensions import disjoint_base

INET_VARIABLES: tuple[str, ...]
UNIX_VARIABLES: tuple[str, ...]
CONNECTION_VARIABLES: frozenset[str]

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
        *,
        path: bytes,
        argv: Sequence[bytes],
        environ: Sequence[bytes],
        ids: tuple[int, int] | None = None,
        groups: Sequence[int] | None = None,
        limits: Sequence[tuple[int, int, int]] = (),
        umask: int | None = None,
        nice: int | None = None,
        ranges: Ranges | None = None,
        log_success: int = 0,
        log_failure: int = 0,
        unix_socket: bool = False,
        posix_spawn: bool = False,
        builtin: int = 0,
    ) -> None: ...
    @property
    def row(self) -> int: ...
