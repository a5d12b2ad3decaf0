"""How a server is started, as a Plan has it; a Program makes C arrays of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Environment = tuple[bytes, ...]
"""The entries of an environment, in their order; usually NAME=VALUE."""


class ResourceLimit(NamedTuple):
    """An rlimit of the child."""

    resource: int  # RLIMIT_NOFILE and the like
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class ExecContext:
    """Everything the child is given: program, arguments, environment, identity and limits.

    An attribute of the child is a field here, is set from the configuration in plan/exec_context.py, and copied by
    Program into `struct spawn_plan` (spawn_plan.h), which the child reads (spawn.h).
    """

    path: bytes
    argv: tuple[bytes, ...]
    environ: Environment = ()
    ids: tuple[int, int] | None = None  # user and group; None: the daemon's own
    groups: tuple[int, ...] | None = None  # supplementary ones; None: the daemon's own
    drop_capabilities: bool = False  # inheritable and ambient ones, which root's programs alone keep
    limits: tuple[ResourceLimit, ...] = ()
    umask: int | None = None  # None: the daemon's own
    nice: int | None = None  # absolute; None: the daemon's own
    posix_spawn: bool = False  # by posix_spawn(3), which cannot change ids, umask or nice
