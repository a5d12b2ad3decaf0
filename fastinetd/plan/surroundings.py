"""What the daemon is and may do on this machine, for which a Plan is made."""

from __future__ import annotations

import os
import pwd
import resource
from dataclasses import dataclass, field

from fastinetd.core.exec_context import Environment
from fastinetd.plan.environment import environment_at_start
from fastinetd.system.guard import find_guard
from fastinetd.system.privileges import Privileges, own_privileges


def _settled_ids() -> tuple[int, int] | None:
    """(uid, gid) of this process; None when its real, effective and saved ids differ."""
    uids, gids = set(os.getresuid()), set(os.getresgid())
    return (uids.pop(), gids.pop()) if len(uids) == len(gids) == 1 else None


@dataclass(frozen=True)
class Surroundings:
    """Environment, ids, limits and privileges of this process, as servers inherit them."""

    environ: Environment = field(default_factory=environment_at_start)
    root: bool = field(default_factory=lambda: os.geteuid() == 0)
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    nice: int = field(default_factory=lambda: os.getpriority(os.PRIO_PROCESS, 0))
    files: tuple[int, int] = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
    may: Privileges = field(default_factory=own_privileges)
    clone: bool = True  # servers can be started by clone(2)
    guard: int | None = field(default_factory=find_guard)  # as PoolPlan.guard; None: the daemon has none
    ids: tuple[int, int] | None = field(default_factory=_settled_ids)  # None: real and effective ids differ
    groups: frozenset[int] = field(default_factory=lambda: frozenset(os.getgroups()))  # supplementary

    @property
    def own_name(self) -> str:
        """The name of the daemon's user, or its uid when it has no entry in the user database."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)
