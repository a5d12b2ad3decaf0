"""How a service's server is started: program, arguments, environment, ids and limits, looked up and ready for exec."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import UNLIMITED, GroupsOfRoot, Place, Service, encoded
from fastinetd.endpoints import Unplannable
from fastinetd.environment import Environment, environment_at_start, environment_of
from fastinetd.executable import exec_fault
from fastinetd.guard import guard
from fastinetd.handlers import handler_start
from fastinetd.privileges import CAP_SYS_NICE, CAP_SYS_RESOURCE, Bar, Privileges, own_privileges

LONGEST_ID = 10
"""Digits of the largest user or group id."""

Limit = tuple[int, int, int]
"""An rlimit: resource, soft, hard."""


@dataclass(frozen=True, slots=True)
class Start:
    """How a server is started: everything the child is given."""

    path: bytes
    argv: tuple[bytes, ...]
    environ: Environment
    ids: tuple[int, int] | None = None
    groups: tuple[int, ...] | None = None
    drop_capabilities: bool = False  # what is inherited stays with root's programs
    limits: tuple[Limit, ...] = ()
    umask: int | None = None
    nice: int | None = None
    posix_spawn: bool = False


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
    guard: int | None = field(default_factory=guard)  # keeps others out of what starts (guard.py); None: nothing does
    ids: tuple[int, int] | None = field(default_factory=_settled_ids)  # None: real and effective ids differ
    groups: frozenset[int] = field(default_factory=lambda: frozenset(os.getgroups()))  # supplementary

    @property
    def own_name(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def start_of(service: Service, surroundings: Surroundings, report: Report) -> Start:
    ids, groups = ids_of(service, surroundings, report)
    environ = environment_of(service, surroundings.environ)
    path = program_of(service, report)
    if path and not surroundings.may.gains and _gains(path):
        report.add("no-gain", service.where("server"), service=service.id, value=service.server)
    if path and service.handler is None:
        runs_as = ids or (surroundings.uid, surroundings.gid)
        if fault := exec_fault(os.fsdecode(path), runs_as, groups or (), _search_path(environ)):
            report.add("cannot-exec", service.where("server"), service=service.id, value=service.server, reason=fault)
    argv = tuple(map(encoded, service.argv))
    if service.handler is not None and not service.internal:
        path, argv, environ = handler_start(service, ids, groups or (), environ, report)
    start = Start(
        path=path,
        argv=argv,
        environ=environ,
        ids=ids,
        groups=groups,
        drop_capabilities=ids is not None and ids[0] != 0 and surroundings.may.inherited != 0,
        limits=_limits(service, surroundings, report),
        umask=service.umask,
        nice=_nice_of(service, surroundings, report),
    )
    needs = [
        what
        for what, needed in (
            ("another user", ids is not None),
            ("groups", groups is not None),
            ("rlimits", len(start.limits) > 1),
            ("umask", start.umask is not None),
            ("nice", start.nice is not None),
        )
        if needed and not service.internal
    ]
    wanted = service.spawn_primitive
    if needs and wanted == "posix_spawn":
        report.add("cannot-posix-spawn", service.where("spawn_primitive"), service=service.id, what=" and ".join(needs))
        raise Unplannable
    if needs and not surroundings.clone:
        report.add("no-clone", service.place, service=service.id, what=" and ".join(needs))
        raise Unplannable
    if wanted == "posix_spawn" or (wanted == "auto" and not surroundings.clone):
        return Start(path, start.argv, start.environ, limits=start.limits, posix_spawn=True)
    return start


def _search_path(environ: Environment) -> str | None:
    """Where a server looks for programs."""
    return next((os.fsdecode(entry[5:]) for entry in environ if entry.startswith(b"PATH=")), None)


def _gains(path: bytes) -> bool:
    """Whether a program is set-user-ID or set-group-ID."""
    return bool(Path(os.fsdecode(path)).stat().st_mode & (stat.S_ISUID | stat.S_ISGID))


def program_of(service: Service, report: Report) -> bytes:
    """The server's path; it must be a file that may be executed."""
    if service.internal or service.server is None:
        return b""
    server = encoded(service.server)
    path = Path(os.fsdecode(server))
    reason = ""
    try:
        if not path.is_file():
            reason = "it is not a file" if path.exists() else "no such file"
        elif not os.access(path, os.X_OK):
            reason = "it is not executable"
    except (OSError, ValueError) as error:
        reason = str(error)
    if reason:
        report.add("no-program", service.where("server"), service=service.id, value=service.server, reason=reason)
        raise Unplannable
    return server


def uid_of(name: str, place: Place, report: Report) -> tuple[int, int | None]:
    """(uid, primary gid) of a user; a number without an entry has no gid of its own."""
    try:
        entry = _user(name)
        return entry.pw_uid, entry.pw_gid
    except KeyError:
        if (number := _number(name)) is not None and number < 2**32 - 1:
            return number, None
        report.add("no-user", place, value=name)
        raise Unplannable from None


def gid_of(name: str, place: Place, report: Report) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if (number := _number(name)) is not None and number < 2**32 - 1:
            return number
        report.add("no-group", place, value=name)
        raise Unplannable from None


@lru_cache(maxsize=1024)
def _user(name: str) -> pwd.struct_passwd:
    number = _number(name)
    return pwd.getpwnam(name) if number is None else pwd.getpwuid(number)


def _number(name: str) -> int | None:
    """An id written in digits; more of them than any id has make a name (and int() would refuse thousands)."""
    return int(name) if name.isascii() and name.isdigit() and len(name) <= LONGEST_ID else None


@lru_cache(maxsize=1024)
def _groups_of(name: str, gid: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(os.getgrouplist(name, gid)))


def forget_users() -> None:
    """Ask the user database anew (before each reading of the configuration)."""
    _user.cache_clear()
    _groups_of.cache_clear()


def ids_of(
    service: Service, surroundings: Surroundings, report: Report
) -> tuple[tuple[int, int] | None, tuple[int, ...] | None]:
    """((uid, gid) or None to stay, supplementary groups or None to leave them)."""
    if service.internal or service.user is None:
        return None, None
    uid, own_gid = uid_of(service.user, service.where("user"), report)
    gid = uid if own_gid is None else own_gid
    if service.group:
        gid = gid_of(service.group, service.where("group"), report)
    if not surroundings.root:
        if uid != surroundings.uid:
            report.add("not-own-user", service.where("user"), service=service.id, value=service.user,
                       own=surroundings.own_name)
            raise Unplannable
        if service.group and gid != surroundings.gid:
            report.add("not-own-group", service.where("group"), service=service.id, what=f"group {service.group}")
            raise Unplannable
        return None, None
    groups: tuple[int, ...] | None = ()
    if uid == 0 and not service.group and service.groups_of_root not in (None, GroupsOfRoot.OWN):
        gid = surroundings.gid
    if uid == 0 and service.groups_of_root is GroupsOfRoot.KEPT:
        groups = None
    elif uid == 0 and not service.group and service.groups_of_root is GroupsOfRoot.DAEMON:
        groups = (gid,)
    elif service.groups:
        try:
            entry = _user(service.user)
        except KeyError:
            report.add("user-without-entry", service.where("groups"), service=service.id, value=service.user)
            raise Unplannable from None
        groups = _groups_of(entry.pw_name, entry.pw_gid if service.groups_of_root is None else gid)
    if (uid, gid) == surroundings.ids and (groups is None or frozenset(groups) == surroundings.groups):
        return None, None  # it is what the daemon is: any way to start it will do
    may = surroundings.may
    if bar := may.bar_to_id("uid", uid, surroundings.uid):
        _cannot_become(service, "user", f"user {service.user}", bar, report)
    if bar := may.bar_to_id("gid", gid, surroundings.gid):
        _cannot_become(service, "group" if service.group else "user", f"gid {gid}", bar, report)
    if groups is not None and (bar := may.bar_to_groups(groups)):
        if uid != surroundings.uid or (service.groups and groups != (gid,)):
            _cannot_become(service, "groups" if service.groups else "user", "no groups but its own", bar, report)
        report.add("groups-stay", service.where("user"), service=service.id, reason=bar.reason, remedy=bar.remedy)
        return (None, None) if (uid, gid) == surroundings.ids else ((uid, gid), None)
    return (uid, gid), groups


def _cannot_become(service: Service, attribute: str, what: str, bar: Bar, report: Report) -> NoReturn:
    report.add("cannot-become", service.where(attribute), service=service.id, what=what, reason=bar.reason,
               remedy=bar.remedy)
    raise Unplannable


def _nice_of(service: Service, surroundings: Surroundings, report: Report) -> int | None:
    """The server's priority; None to leave it."""
    if service.nice is None:
        return None
    nice = max(-20, min(19, surroundings.nice + service.nice))
    if nice < surroundings.nice and not surroundings.may.has(CAP_SYS_NICE) and not service.internal:
        report.add("not-own-nice", service.where("nice"), service=service.id, value=service.nice)
        raise Unplannable
    return nice


_RESOURCES = {
    "as": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "rss": resource.RLIMIT_RSS,
    "stack": resource.RLIMIT_STACK,
    "files": resource.RLIMIT_NOFILE,
}


def _limits(service: Service, surroundings: Surroundings, report: Report) -> tuple[Limit, ...]:
    """What is set in the child; its limit of open files is always the daemon's original one, or its own. Never more
    than the kernel would let it have: that would be the end of each start."""
    if service.internal:
        return ()
    limits = {resource.RLIMIT_NOFILE: surroundings.files}
    for name, value in service.rlimits.items():
        number = most = _most(name, surroundings)
        if value != UNLIMITED:
            number = value if most == resource.RLIM_INFINITY else min(value, most)
            if number < value:
                report.add("limit-cut", service.where(f"rlimit_{name}"), name=f"rlimit_{name}", value=value, most=most)
        limits[_RESOURCES[name]] = (number, number)
    return tuple((which, soft, hard) for which, (soft, hard) in limits.items())


def _most(name: str, surroundings: Surroundings) -> int:
    """The highest limit that can be set; RLIM_INFINITY where there is none."""
    if not surroundings.may.has(CAP_SYS_RESOURCE):
        return surroundings.files[1] if name == "files" else resource.getrlimit(_RESOURCES[name])[1]
    return int(Path("/proc/sys/fs/nr_open").read_text()) if name == "files" else resource.RLIM_INFINITY
