"""What the daemon itself is and may do here: what a Plan is made for."""

from __future__ import annotations

import os
import pwd
import resource
from dataclasses import dataclass, field

from fastinetd.plan.environment import Environment, environment_at_start
from fastinetd.system.guard import guard
from fastinetd.system.privileges import Privileges, own_privileges


def _settled_ids() -> tuple[int, int] | None:
    """The daemon's (uid, gid), where a program it starts has these and no others."""
    uids, gids = set(os.getresuid()), set(os.getresgid())
    return (uids.pop(), gids.pop()) if len(uids) == len(gids) == 1 else None


@dataclass(frozen=True)
class Surroundings:
    """What the daemon was started with, as far as its servers inherit it."""

    environ: Environment = field(default_factory=environment_at_start)
    root: bool = field(default_factory=lambda: os.geteuid() == 0)
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    nice: int = field(default_factory=lambda: os.getpriority(os.PRIO_PROCESS, 0))
    files: tuple[int, int] = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
    may: Privileges = field(default_factory=own_privileges)
    clone: bool = True  # the start by clone works here
    guard: int | None = field(default_factory=guard)  # keeps others out of what starts; None: nothing does
    ids: tuple[int, int] | None = field(default_factory=_settled_ids)  # None: real and effective ids differ
    groups: frozenset[int] = field(default_factory=lambda: frozenset(os.getgroups()))  # supplementary

    @property
    def own_name(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)
