"""The privileges of this process: capabilities, the ids of its user namespace, the ports it may listen on.

Theory. Root does not always have all rights: a container takes capabilities from it (capabilities(7)), a user namespace
maps few ids and may refuse setgroups (user_namespaces(7)), a filter denies system calls (seccomp(2)). What is missing
is found before it is needed, so that a service that would fail for each client is not started, and the reason is
reported with its remedy.

Rules of this file: it inspects and decides, and changes nothing.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from fastinetd.system.processes import read_own_status

CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_NICE, CAP_SYS_RESOURCE = 0, 5, 6, 7, 23, 24
CAPABILITY_VERSION_3 = 0x20080522
"""The version of the structures of capget(2) and capset(2) (linux/capability.h)."""

USERS = ("fastinetd", "_fastinetd", "nobody")
"""Users for the roles without privileges, of which the first that exists and can be set counts. A user of their own
keeps servers that run as nobody from sending them signals."""

Kind = Literal["uid", "gid"]
Ids = tuple[range, ...]
"""Ranges of uids or gids."""
EVERY: Ids = (range(2**32 - 1),)
"""All uids or gids; 2**32 - 1 is none."""


class Bar(NamedTuple):
    """Why a privilege is missing, and the remedy, as in messages."""

    reason: str
    remedy: str


def _bar_without(name: str) -> Bar:
    """The bar of a process without the capability CAP_`name`."""
    return Bar(f"the daemon is without CAP_{name}",
               f"give it that capability (`--cap-add {name}` of a container, CapabilityBoundingSet= of a unit)")


ALLOW_CALL = "allow it (SystemCallFilter= of a unit, the seccomp profile of a container)"
"""What to do about a system call that is denied."""

_NO_SETGROUPS = Bar("setgroups is denied in the daemon's user namespace",
                    "have it mapped by root or newgidmap(1), which need not deny that")


@dataclass(frozen=True, slots=True)
class Privileges:
    """The privileges of a process; by default all there are."""

    capabilities: int = 2**64 - 1  # a bit for each that is effective
    uids: Ids = EVERY  # that exist in its user namespace
    gids: Ids = EVERY
    setgroups: bool = True  # its user namespace allows it
    gains: bool = True  # its programs may gain privileges when they are set-user-ID (no no_new_privs)
    lowest_port: int = 0  # that it may listen on
    inherited: int = 0  # a bit for each capability that the programs it executes may have of it
    denied: frozenset[str] = frozenset()  # of setresuid, setresgid and setgroups, those that a filter denies

    def has(self, capability: int) -> bool:
        """Whether a capability is effective."""
        return bool(self.capabilities >> capability & 1)

    def bar_to_id(self, kind: Kind, number: int, own: int) -> Bar | None:
        """What bars a process whose id of this kind is `own` from setting it to `number`; None for nothing."""
        if number == own:
            return None
        capability, name = (CAP_SETUID, "SETUID") if kind == "uid" else (CAP_SETGID, "SETGID")
        if not self.has(capability):
            return _bar_without(name)
        return self._bar_to_call(f"setres{kind}") or self._bar_to_unmapped(kind, number)

    def _bar_to_call(self, name: str) -> Bar | None:
        """What bars the process from a system call of `denied`; None for nothing."""
        return Bar(f"the daemon may not call {name}(2)", ALLOW_CALL) if name in self.denied else None

    def _bar_to_unmapped(self, kind: Kind, number: int) -> Bar | None:
        """What bars any process from having an id; None for nothing."""
        ids = self.uids if kind == "uid" else self.gids
        if any(number in each for each in ids):
            return None
        return Bar(f"{kind} {number} is not mapped in the daemon's user namespace", "map it (user_namespaces(7))")

    def bar_to_groups(self, groups: Iterable[int]) -> Bar | None:
        """What bars a process from setting these supplementary groups; None for nothing."""
        if not self.has(CAP_SETGID):
            return _bar_without("SETGID")
        if not self.setgroups:
            return _NO_SETGROUPS
        unmapped = (self._bar_to_unmapped("gid", gid) for gid in groups)
        return self._bar_to_call("setgroups") or next(filter(None, unmapped), None)

    def bar_to_owner(self, uid: int | None, gid: int | None, own: int, groups: Iterable[int]) -> Bar | None:
        """What bars the user `own`, who is in `groups`, from giving a file this owner and group; None for nothing.

        A `uid` or `gid` of None leaves owner or group as they are.
        """
        if uid in (None, own) and (gid is None or gid in groups):
            return None
        if not self.has(CAP_CHOWN):
            return _bar_without("CHOWN")
        bar = None if uid is None else self._bar_to_unmapped("uid", uid)
        return bar or (None if gid is None else self._bar_to_unmapped("gid", gid))


def bar_to_kill(privileges: Privileges) -> Bar | None:
    """What bars root from sending signals to processes of other users; None for nothing."""
    return None if privileges.has(CAP_KILL) else _bar_without("KILL")


class Nobody(NamedTuple):
    """The ids of roles without privileges; None for one that must stay root's, with the reason in `bar`."""

    uid: int | None
    gid: int | None
    groups: bool  # the supplementary groups can be dropped
    bar: Bar | None


def choose_nobody(privileges: Privileges) -> Nobody:
    """The ids for roles without privileges, of the first of USERS that root with these privileges can become best."""
    candidates: list[tuple[int, int]] = []
    for name in USERS:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            candidates.append((entry.pw_uid, entry.pw_gid))
    candidates.append((65534, 65534))
    bars = [
        (privileges.bar_to_id("uid", uid, 0), privileges.bar_to_id("gid", gid, 0), privileges.bar_to_groups(()))
        for uid, gid in candidates
    ]
    best = min(range(len(bars)), key=lambda number: sum(bar is not None for bar in bars[number]))
    (uid, gid), (user, group, groups) = candidates[best], bars[best]
    first = user or group or groups
    return Nobody(uid if user is None else None, gid if group is None else None, groups is None, first)


def own_privileges() -> Privileges:
    """The privileges of this process; without /proc root counts as privileged, and any other user as not."""
    fields = read_own_status()
    everything = 2**64 - 1 if os.geteuid() == 0 else 0
    capabilities = int(fields["CapEff"], 16) if "CapEff" in fields else everything
    allowed = _read_text("/proc/self/setgroups") != "deny"
    return Privileges(
        capabilities=capabilities,
        uids=_ids_of("uid_map"),
        gids=_ids_of("gid_map"),
        setgroups=allowed,
        gains=fields.get("NoNewPrivs") != "1",
        lowest_port=_find_lowest_port(),
        inherited=int(fields.get("CapInh", "0"), 16) | int(fields.get("CapAmb", "0"), 16),
        denied=frozenset(_denied_calls(capabilities, setgroups=allowed)),
    )


def _denied_calls(capabilities: int, *, setgroups: bool) -> Iterator[str]:
    """The names of the calls that are denied although this process has the capability: each is tried with what it has
    already, which changes nothing."""
    user, group = (bool(capabilities >> number & 1) for number in (CAP_SETUID, CAP_SETGID))
    trials: list[tuple[str, bool, Callable[[], None]]] = [
        ("setresuid", user, lambda: os.setresuid(-1, -1, -1)),
        ("setresgid", group, lambda: os.setresgid(-1, -1, -1)),
        ("setgroups", group and setgroups, lambda: os.setgroups(os.getgroups())),
    ]
    for name, able, make in trials:
        if able:
            try:
                make()
            except OSError as error:
                if error.errno != errno.EINVAL:  # it is in a group that is not mapped
                    yield name


def _ids_of(name: str) -> Ids:
    """The ids that the file `name`, uid_map or gid_map, maps in this process's user namespace."""
    rows = [line.split() for line in _read_text(f"/proc/self/{name}").splitlines()]
    return tuple(range(int(first), int(first) + int(count)) for first, _, count in rows) or EVERY


def _find_lowest_port() -> int:
    """The lowest port that this process may bind.

    Found by bind(2): CAP_NET_BIND_SERVICE counts only in the user namespace that owns the network namespace.
    """
    limit = _read_text("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    lowest = int(limit) if limit else 1024
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            if lowest > 1:
                probe.bind(("127.0.0.1", lowest - 1))
        except OSError as error:
            if error.errno == errno.EACCES:
                return lowest
    return 0


def _read_text(path: str) -> str:
    """The text of a file without blanks around it; "" when it cannot be read."""
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""
