"""How a server is started: program, arguments, environment, ids and limits, looked up and ready for exec."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import UNLIMITED, Service, encode_text
from fastinetd.core.exec_context import Environment, ExecContext, ResourceLimit
from fastinetd.plan.environment import environment_of
from fastinetd.plan.executable import exec_fault
from fastinetd.plan.handler import handler_command
from fastinetd.plan.model import Unplannable
from fastinetd.plan.surroundings import Surroundings
from fastinetd.plan.users import ids_of
from fastinetd.system.privileges import CAP_SYS_NICE, CAP_SYS_RESOURCE


def exec_context_of(service: Service, surroundings: Surroundings, report: Report) -> ExecContext:
    """How the servers of a service are started here. Raises Unplannable, reported, when they cannot be."""
    ids, groups = ids_of(service, surroundings, report)
    environ = environment_of(service, surroundings.environ)
    path = program_of(service, report)
    if path and not surroundings.may.gains and _gains_rights(path):
        report.add("no-gain", service.place_of("server"), service=service.id, value=service.server)
    if path and service.handler is None:
        runs_as = ids or (surroundings.uid, surroundings.gid)
        if fault := exec_fault(os.fsdecode(path), runs_as, groups or (), _search_path(environ)):
            place = service.place_of("server")
            report.add("cannot-exec", place, service=service.id, value=service.server, reason=fault)
    argv = tuple(map(encode_text, service.argv))
    if service.handler is not None and not service.internal:
        path, argv, environ = handler_command(service, ids, groups or (), environ, report)
    context = ExecContext(
        path=path,
        argv=argv,
        environ=environ,
        ids=ids,
        groups=groups,
        drop_capabilities=ids is not None and ids[0] != 0 and surroundings.may.inherited != 0,
        limits=_limits_of(service, surroundings, report),
        umask=service.umask,
        nice=_nice_of(service, surroundings, report),
    )
    needs = [
        what
        for what, needed in (
            ("another user", ids is not None),
            ("groups", groups is not None),
            ("rlimits", len(context.limits) > 1),
            ("umask", context.umask is not None),
            ("nice", context.nice is not None),
        )
        if needed and not service.internal
    ]
    wanted = service.spawn_primitive
    if needs and wanted == "posix_spawn":
        place = service.place_of("spawn_primitive")
        report.add("cannot-posix-spawn", place, service=service.id, what=" and ".join(needs))
        raise Unplannable
    if needs and not surroundings.clone:
        report.add("no-clone", service.place, service=service.id, what=" and ".join(needs))
        raise Unplannable
    if wanted == "posix_spawn" or (wanted == "auto" and not surroundings.clone):
        return ExecContext(path, context.argv, context.environ, limits=context.limits, posix_spawn=True)
    return context


def _search_path(environ: Environment) -> str | None:
    """The PATH of a server's environment; None when it has none."""
    return next((os.fsdecode(entry[5:]) for entry in environ if entry.startswith(b"PATH=")), None)


def _gains_rights(path: bytes) -> bool:
    """Whether a program is set-user-ID or set-group-ID."""
    return bool(Path(os.fsdecode(path)).stat().st_mode & (stat.S_ISUID | stat.S_ISGID))


def program_of(service: Service, report: Report) -> bytes:
    """The path of the server, b"" without one. Raises Unplannable, reported, unless it is an executable file."""
    if service.internal or service.server is None:
        return b""
    server = encode_text(service.server)
    reason = ""
    try:
        # Not by a Path, which leaves out a slash at the end; execve(2) does not.
        if not stat.S_ISREG(os.stat(server).st_mode):  # noqa: PTH116
            reason = "it is not a file"
        elif not os.access(server, os.X_OK):
            reason = "it is not executable"
    except FileNotFoundError:
        reason = "no such file"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    if reason:
        report.add("no-program", service.place_of("server"), service=service.id, value=service.server, reason=reason)
        raise Unplannable
    return server


def _nice_of(service: Service, surroundings: Surroundings, report: Report) -> int | None:
    """The nice value of the server, -20 to 19; None to inherit the daemon's. Raises Unplannable, reported."""
    if service.nice is None:
        return None
    nice = max(-20, min(19, surroundings.nice + service.nice))
    if nice < surroundings.nice and not surroundings.may.has(CAP_SYS_NICE) and not service.internal:
        report.add("not-own-nice", service.place_of("nice"), service=service.id, value=service.nice)
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
"""What follows `rlimit_` in an attribute -> the kernel's number."""


def _limits_of(service: Service, surroundings: Surroundings, report: Report) -> tuple[ResourceLimit, ...]:
    """The rlimits that are set in the child, none higher than the daemon may set: setrlimit(2) would fail each start.

    The limit of open files is always set, if not to `rlimit_files` to the one with which the daemon was started: the
    daemon raises its own.
    """
    if service.internal:
        return ()
    limits = {resource.RLIMIT_NOFILE: surroundings.files}
    for name, value in service.rlimits.items():
        number = most = _highest_limit(name, surroundings)
        if value != UNLIMITED:
            number = value if most == resource.RLIM_INFINITY else min(value, most)
            if number < value:
                attribute = f"rlimit_{name}"
                report.add("limit-cut", service.place_of(attribute), name=attribute, value=value, most=most)
        limits[_RESOURCES[name]] = (number, number)
    return tuple(ResourceLimit(which, soft, hard) for which, (soft, hard) in limits.items())


def _highest_limit(name: str, surroundings: Surroundings) -> int:
    """The highest value that the daemon may set for an rlimit; RLIM_INFINITY for any."""
    if not surroundings.may.has(CAP_SYS_RESOURCE):
        return surroundings.files[1] if name == "files" else resource.getrlimit(_RESOURCES[name])[1]
    return int(Path("/proc/sys/fs/nr_open").read_text()) if name == "files" else resource.RLIM_INFINITY
