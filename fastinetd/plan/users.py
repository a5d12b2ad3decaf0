"""Users and groups: their numbers, and the ids that a server gets."""

from __future__ import annotations

import grp
import os
import pwd
from functools import lru_cache
from typing import NoReturn

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import GroupsOfRoot, Place, Service
from fastinetd.plan.model import Unplannable
from fastinetd.plan.surroundings import Surroundings
from fastinetd.system.privileges import Bar

LONGEST_ID = 10
"""Digits of the largest uid or gid, 4294967294."""


def uid_of(name: str, place: Place, report: Report) -> tuple[int, int | None]:
    """(uid, primary gid) of a user's name or number; the gid is None for a number without an entry.

    Raises Unplannable, reported at `place`, when there is no such user.
    """
    try:
        entry = _find_user(name)
        return entry.pw_uid, entry.pw_gid
    except KeyError:
        if (number := _read_id(name)) is not None and number < 2**32 - 1:
            return number, None
        report.add("no-user", place, value=name)
        raise Unplannable from None


def gid_of(name: str, place: Place, report: Report) -> int:
    """The gid of a group's name or number. Raises Unplannable, reported at `place`, when there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if (number := _read_id(name)) is not None and number < 2**32 - 1:
            return number
        report.add("no-group", place, value=name)
        raise Unplannable from None


@lru_cache(maxsize=1024)
def _find_user(name: str) -> pwd.struct_passwd:
    """The entry of a user's name or number in the user database; KeyError when there is none."""
    number = _read_id(name)
    return pwd.getpwnam(name) if number is None else pwd.getpwuid(number)


def _read_id(name: str) -> int | None:
    """The id that a text of digits is; None for a name, and for more digits than an id has: int() refuses thousands."""
    return int(name) if name.isascii() and name.isdigit() and len(name) <= LONGEST_ID else None


@lru_cache(maxsize=1024)
def _groups_of(name: str, gid: int) -> tuple[int, ...]:
    """`gid` and the supplementary groups of a user, each once."""
    return tuple(dict.fromkeys(os.getgrouplist(name, gid)))


def forget_users() -> None:
    """Have the user database read anew when it is needed next."""
    _find_user.cache_clear()
    _groups_of.cache_clear()


def ids_of(
    service: Service, surroundings: Surroundings, report: Report
) -> tuple[tuple[int, int] | None, tuple[int, ...] | None]:
    """(uid, gid) and supplementary groups of a service's servers; None for those that they inherit.

    Raises Unplannable, reported, when the daemon may not set them.
    """
    if service.internal or service.user is None:
        return None, None
    uid, own_gid = uid_of(service.user, service.place_of("user"), report)
    gid = uid if own_gid is None else own_gid
    if service.group:
        gid = gid_of(service.group, service.place_of("group"), report)
    if not surroundings.root:
        if uid != surroundings.uid:
            place, own = service.place_of("user"), surroundings.own_name
            report.add("not-own-user", place, service=service.id, value=service.user, own=own)
            raise Unplannable
        if service.group and gid != surroundings.gid:
            report.add("not-own-group", service.place_of("group"), service=service.id, what=f"group {service.group}")
            raise Unplannable
        return None, None
    groups: tuple[int, ...] | None = ()  # none, as from xinetd without `groups = yes`
    if uid == 0 and not service.group and service.groups_of_root not in (None, GroupsOfRoot.OWN):
        gid = surroundings.gid
    if uid == 0 and service.groups_of_root is GroupsOfRoot.KEPT:
        groups = None
    elif uid == 0 and not service.group and service.groups_of_root is GroupsOfRoot.DAEMON:
        groups = (gid,)
    elif service.groups:
        try:
            entry = _find_user(service.user)
        except KeyError:
            report.add("user-without-entry", service.place_of("groups"), service=service.id, value=service.user)
            raise Unplannable from None
        groups = _groups_of(entry.pw_name, entry.pw_gid if service.groups_of_root is None else gid)
    # What they inherit is not set: posix_spawn and systems without clone may do then, and denied calls do no harm.
    ids = None if (uid, gid) == surroundings.ids else (uid, gid)
    if ids is None and (groups is None or frozenset(groups) == surroundings.groups):
        return None, None
    may = surroundings.may
    if bar := may.bar_to_id("uid", uid, surroundings.uid):
        _refuse_ids(service, "user", f"user {service.user}", bar, report)
    if bar := may.bar_to_id("gid", gid, surroundings.gid):
        _refuse_ids(service, "group" if service.group else "user", f"gid {gid}", bar, report)
    if groups is not None and (bar := may.bar_to_groups(groups)):
        if uid != surroundings.uid or (service.groups and groups != (gid,)):
            _refuse_ids(service, "groups" if service.groups else "user", "no groups but its own", bar, report)
        report.add("groups-stay", service.place_of("user"), service=service.id, reason=bar.reason, remedy=bar.remedy)
        return ids, None
    return ids, groups


def _refuse_ids(service: Service, attribute: str, what: str, bar: Bar, report: Report) -> NoReturn:
    """Report that the daemon may not give the servers `what`, and raise Unplannable."""
    place = service.place_of(attribute)
    report.add("cannot-become", place, service=service.id, what=what, reason=bar.reason, remedy=bar.remedy)
    raise Unplannable
