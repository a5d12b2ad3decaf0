"""Paths of log files: those that mean an open descriptor, relative ones, and those where no log can be written.

Theory. A log may be named /dev/stdout, or be a link to it, as images of containers have it. Usually that can be opened
like a file; where it cannot (a socket, a pipe of another user) the descriptor itself is meant.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from dataclasses import replace

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Config, LogKind
from fastinetd.system.descriptors import FIRST_KEPT_DESCRIPTOR

_MOST_LINKS = 40  # that are followed, as by the kernel
_FD_FOLDER = re.compile(r"/proc/(\d+)/fd")


def own_descriptor(path: str) -> int | None:
    """The descriptor of this process that a path means (/dev/stdout, /proc/self/fd/1, links to it); None for a file."""
    process, number = _descriptor_of(path) or (0, 0)
    return number if process == os.getpid() else None


def _descriptor_of(path: str) -> tuple[int, int] | None:
    """The process and its descriptor that a path means (/proc/1/fd/1); None for a file."""
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        if (found := _FD_FOLDER.fullmatch(folder)) and name.isdecimal():
            return int(found[1]), int(name)
        try:
            path = os.path.join(folder, os.readlink(os.path.join(folder, name)))  # noqa: PTH115, PTH118
        except OSError:
            return None
    return None


def descriptor_trouble(path: str) -> str:
    """Why the descriptor that a path means cannot be used as a log, and what helps; "" if it can, or the path means a
    file."""
    process, number = _descriptor_of(path) or (0, 0)
    if process == os.getpid() and number > 2:
        return f"descriptor {number} is closed at the start, only 1 and 2 stay; write /dev/stdout or a file"
    if process in (0, os.getpid()):
        return ""
    if (copy := copy_descriptor(path)) is not None:  # it is this process's own output, too
        os.close(copy)
        return ""
    whose = f"descriptor {number} of process {process}"
    remedy = "start the daemon with it as its own output and write /dev/stdout, or use SYSLOG"
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
            return f"{whose} is a socket, which no other process can open; {remedy}"
    except OSError as error:
        return f"{whose} cannot be had: {(error.strerror or '').lower()}; {remedy}"
    return "" if os.access(path, os.W_OK) else f"{whose} may not be written; {remedy}"


def copy_descriptor(path: str) -> int | None:
    """A copy, the caller's, of the open descriptor that a path means or leads to; None if there is none."""
    number = own_descriptor(path)
    try:
        if number is not None and number > 2:
            return None  # it was closed at the start; what has its number by now is another file of the daemon
        if number is None:
            meant = os.stat(path)  # noqa: PTH116 - /proc/1/fd/1 as another process sees it
            number = next(each for each in (1, 2) if os.path.samestat(os.fstat(each), meant))
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_KEPT_DESCRIPTOR)
    except (OSError, StopIteration):
        return None


def leads_nowhere(descriptor: int) -> bool:
    """Whether a descriptor is /dev/null."""
    status = os.fstat(descriptor)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def locate_logs(config: Config, folder: str, report: Report) -> Config:
    """The configuration with absolute paths of log files; relative ones start at `folder`, where the daemon was
    started. A path where no log can be written is reported, once."""
    seen: set[str] = set()
    services = []
    for service in config.services:
        log = service.log_type
        if log.kind is LogKind.FILE:
            path = os.path.join(folder, log.path)  # noqa: PTH118
            if path not in seen:
                seen.add(path)
                place = service.place_of("log_type")
                if path != log.path:
                    report.add("log-relative", place, path=log.path, full=path)
                if why := trouble_with(path):
                    report.add("log-place", place, path=path, why=why)
            service = replace(service, log_type=replace(log, path=path))
        services.append(service)
    return replace(config, services=tuple(services))


def trouble_with(path: str) -> str:
    """Why a log cannot be written there, or had better not be; "" if it can. The log is not opened."""
    if _descriptor_of(path) is not None:
        return descriptor_trouble(path)
    folder = os.path.dirname(path)  # noqa: PTH120
    try:
        shared = bool(os.stat(folder).st_mode & stat.S_IWOTH)  # noqa: PTH116
    except OSError as error:
        return f"{folder}: {(error.strerror or '').lower()}; make the folder"
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return f"{(error.strerror or '').lower()}; name a file"
        mode = 0
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
        return f"it is a {'folder' if stat.S_ISDIR(mode) else 'socket'}; name a file"
    if os.path.islink(path):  # noqa: PTH114
        if shared:
            return f"it is a link in a folder where everybody may put one, to {os.path.realpath(path)}; choose another"
        folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120
    if mode:
        return "" if os.access(path, os.W_OK) else "it may not be written; mend its permissions"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"no file can be made in {folder}; make that folder, or mend its permissions"
    return "everybody may put a link in its folder; choose another" if shared else ""
