"""How a handler is started: by the daemon's own Python, which must be readable for the service's user and find this
package.
"""

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
from fastinetd.plan.holdable import find_bar
from fastinetd.plan.model import Unplannable

PACKAGE = Path(__file__).parents[1]
"""The folder of this package."""
WORKER_MODULE = "fastinetd.worker"
"""The module that runs handlers."""

_VARIABLE = b"PYTHONPATH="


def handler_command(
    service: Service, ids: tuple[int, int] | None, groups: tuple[int, ...], environ: tuple[bytes, ...], report: Report
) -> tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]:
    """Program, arguments and environment of the workers of a service with a handler. Raises Unplannable, reported.

    `ids`: uid and gid of the workers, None for the daemon's own; `environ`: what the service's environment is so far.
    """
    reason = remedy = ""
    if not sys.executable:
        reason, remedy = "the daemon does not know its own Python", "start it by an absolute path"
    elif ids is not None and (found := _find_unreadable(ids, groups)) is not None:
        reason = f"user {service.user} may not read {found}"
        remedy = "install fastinetd and its Python where every user may read them, or name another user"
    if reason:
        report.add("no-interpreter", service.place_of("handler"), service=service.id, reason=reason, remedy=remedy)
        raise Unplannable
    python = os.fsencode(sys.executable)
    # -P: modules are not looked for in the current folder, which is / in a worker.
    argv = (python, b"-P", b"-m", WORKER_MODULE.encode(), encode_text(service.handler or ""))
    return python, argv, environ if _is_installed() else _add_package(environ)


def _find_unreadable(ids: tuple[int, int], groups: tuple[int, ...]) -> str | None:
    """What a user may not read of Python, its library and this package, or a folder above; None for nothing."""
    library = f"{sysconfig.get_path('stdlib')}/os.py"
    return (
        find_bar(sys.executable, ids, groups, execute=True)
        or find_bar(library, ids, groups)
        or find_bar(str(PACKAGE / "__init__.py"), ids, groups)
    )


def _is_installed() -> bool:
    """Whether Python finds this package without PYTHONPATH: it is in site-packages, or a file there leads to it.

    A folder of sys.path before site-packages is the current one or from PYTHONPATH. If the package's folder is not in
    sys.path at all, an import hook of site-packages has found it.
    """
    installed = {os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    path = [os.path.realpath(folder) for folder in sys.path]
    first = min((path.index(folder) for folder in installed if folder in path), default=len(path))
    own = os.path.realpath(PACKAGE.parent)
    return own in path[first:] or own not in path


def _add_package(environ: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The environment with the folder around this package at the end of PYTHONPATH."""
    theirs, own = _pythonpath_of(environ), os.fsencode(PACKAGE.parent)
    if own in theirs.split(b":"):
        return environ
    others = (each for each in environ if not each.startswith(_VARIABLE))
    return (*others, _VARIABLE + (theirs + b":" if theirs else b"") + own)


def _pythonpath_of(environ: Sequence[bytes]) -> bytes:
    """The value of PYTHONPATH in an environment; b"" without it."""
    return next((each.removeprefix(_VARIABLE) for each in environ if each.startswith(_VARIABLE)), b"")


def module_file(handler: str, environ: Sequence[bytes]) -> str | None:
    """The file of a handler's module, "" for a module without a file; None when there is no such module.

    `handler` is MODULE:FUNCTION. Neither the module nor the packages around it are imported.
    """
    importlib.invalidate_caches()
    first, *rest = handler.partition(":")[0].split(".")
    folders = [folder for folder in os.fsdecode(_pythonpath_of(environ)).split(":") if folder]
    found: ModuleSpec | None = PathFinder.find_spec(first, folders)
    if found is None:
        with suppress(ImportError, ValueError):  # not importable, or in sys.modules without a spec
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
