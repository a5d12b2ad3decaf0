"""How a handler is started: by the daemon's own Python, which must find this package, and may be read, as its user."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Service, encode_text
from fastinetd.plan.holdable import barred
from fastinetd.plan.model import Unplannable

PACKAGE = Path(__file__).parents[1]
WORKER = "fastinetd.worker"

_VARIABLE = b"PYTHONPATH="


def handler_start(
    service: Service, ids: tuple[int, int] | None, groups: tuple[int, ...], environ: tuple[bytes, ...], report: Report
) -> tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]:
    """Program, arguments and environment of a service with a handler. Raises Unplannable, reported."""
    reason = remedy = ""
    if not sys.executable:
        reason, remedy = "the daemon does not know its own Python", "start it by an absolute path"
    elif ids is not None and (found := _unreadable(ids, groups)) is not None:
        reason = f"user {service.user} may not read {found}"
        remedy = "install fastinetd and its Python where every user may read them, or name another user"
    if reason:
        report.add("no-interpreter", service.place_of("handler"), service=service.id, reason=reason, remedy=remedy)
        raise Unplannable
    python = os.fsencode(sys.executable)
    # -P: the current folder, which is / there, is no place for modules.
    argv = (python, b"-P", b"-m", WORKER.encode(), encode_text(service.handler or ""))
    return python, argv, environ if _is_installed() else _with_package(environ)


def _unreadable(ids: tuple[int, int], groups: tuple[int, ...]) -> str | None:
    """What of Python, its library and this package a user may not read."""
    library = f"{sysconfig.get_path('stdlib')}/os.py"
    return (
        barred(sys.executable, ids, groups, execute=True)
        or barred(library, ids, groups)
        or barred(str(PACKAGE / "__init__.py"), ids, groups)
    )


def _is_installed() -> bool:
    """Whether Python finds this package by itself: in its own folder, or by what is written there for a checkout.

    Where the package's folder comes first in the path it is the current one, or from PYTHONPATH; where it is not in
    the path at all, an import hook of the installation has found the package.
    """
    installed = {os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    path = [os.path.realpath(folder) for folder in sys.path]
    first = min((path.index(folder) for folder in installed if folder in path), default=len(path))
    own = os.path.realpath(PACKAGE.parent)
    return own in path[first:] or own not in path


def _with_package(environ: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The environment with this package's folder as the last of PYTHONPATH."""
    theirs, own = _pythonpath(environ), os.fsencode(PACKAGE.parent)
    if own in theirs.split(b":"):
        return environ
    others = (each for each in environ if not each.startswith(_VARIABLE))
    return (*others, _VARIABLE + (theirs + b":" if theirs else b"") + own)


def _pythonpath(environ: Sequence[bytes]) -> bytes:
    return next((each.removeprefix(_VARIABLE) for each in environ if each.startswith(_VARIABLE)), b"")


def module_file(handler: str, environ: Sequence[bytes]) -> str | None:
    """The file a handler's module is in, "" when it is in none; None when there is no such module.

    Nothing of the module or of the packages it is in is run for that.
    """
    importlib.invalidate_caches()
    first, *rest = handler.partition(":")[0].split(".")
    folders = [folder for folder in os.fsdecode(_pythonpath(environ)).split(":") if folder]
    found: ModuleSpec | None = PathFinder.find_spec(first, folders)
    if found is None:
        with suppress(ImportError, ValueError):  # not a module, or one in use without a trace of where it came from
            found = importlib.util.find_spec(first)
    name = first
    for part in rest:
        if found is None:
            return None
        name += f".{part}"
        found = PathFinder.find_spec(name, found.submodule_search_locations or [])
    if found is None:
        return None
    return found.origin or "" if found.has_location else ""
