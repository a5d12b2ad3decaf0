"""`python -m fastinetd.worker module:function`: what the daemon starts for `handler = module:function`.

Signals are those of a fresh process, so SIGTERM ends a worker as it ends a server that was started by exec. Who has
something to finish first installs a handler of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import syslog
from functools import partial
from importlib import import_module
from socket import socket
from typing import Any

from fastinetd.worker.handlers import Handler, Task, serve, serve_async, summary
from fastinetd.worker.log import clients_only, log
from fastinetd.worker.protocol import VARIABLE, Broken, Daemon, Peer, close, open_daemon, open_only_connection

IDENT = "fastinetd-worker"

CANNOT = 78
"""Exit status of a worker that can serve nobody: EX_CONFIG of sysexits.h."""


def _load(name: str) -> Handler:
    module, _, attribute = name.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{attribute} cannot be called: it is of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _is_async(handler: Any) -> bool:
    """What inspect.iscoroutinefunction says, without its import."""
    while isinstance(handler, partial):
        handler = handler.func
    if hasattr(handler, "_is_coroutine_mark") or hasattr(handler, "_is_coroutine"):
        return True
    codes = (getattr(function, "__code__", None) for function in (handler, type(handler).__call__))
    return any(code is not None and code.co_flags & 0x80 for code in codes)  # CO_COROUTINE


def _cannot(name: str, error: BaseException, to_syslog: bool) -> int:
    """Tell why a handler cannot be had, and what to do about it."""
    import traceback

    what_to_do = "correct its module, as the traceback says"
    if isinstance(error, ModuleNotFoundError):
        what_to_do = (
            "write `env = PYTHONPATH=/the/folder/of/the/module`, a folder that the service's user may read, or install "
            f"it for {sys.executable}"
        )
    told = f"handler {name} cannot be imported: {summary(error)}; {what_to_do}"
    _tell(told, "".join(traceback.format_exception(error)), to_syslog)
    return CANNOT


def _tell(line: str, more: str, to_syslog: bool) -> None:
    """To the daemon; or to syslog and, for who tries it by hand, to standard error."""
    log(line, more, to_syslog=to_syslog)
    if to_syslog:
        print(f"{IDENT}: {line}", more, sep="\n", end="", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own would become an exception in somebody's connection
    sys.argv[:] = [IDENT, *arguments]
    syslog.openlog(IDENT, syslog.LOG_PID, syslog.LOG_DAEMON)
    to_syslog = VARIABLE not in os.environ and clients_only()
    if len(arguments) != 1 or not all(arguments[0].partition(":")):
        _tell(f"expected one argument, module:function, and not {' '.join(arguments) or 'none'}", "", to_syslog)
        return CANNOT
    name, trouble, alone = arguments[0], None, None
    try:
        daemon = open_daemon()
        if daemon is None:
            alone = open_only_connection()
    except Broken as error:
        trouble = error
    try:
        handler = _load(name)
    except (Exception, SystemExit) as error:
        return _cannot(name, error, to_syslog)
    if trouble is not None:
        _tell(f"handler {name} can be imported, but {trouble}", "", to_syslog)
        return CANNOT
    try:
        return _run(Task(name, handler, to_syslog=to_syslog), daemon, alone)
    except Exception as error:
        _tell(f"handler {name}: this worker ends: {summary(error)}", "", to_syslog)
        return 1


def _run(task: Task, daemon: Daemon | None, alone: tuple[socket, Peer] | None) -> int:
    """Serve the daemon's connections until it has no more, or the only one."""
    is_async = _is_async(task.handler)
    if is_async:
        import asyncio
    if daemon is not None:
        if is_async:
            asyncio.run(serve_async(daemon, task))
        else:
            serve(daemon, task)
        return 0
    assert alone is not None
    status = asyncio.run(task.run_async(*alone)) if is_async else task.run(*alone)
    close(alone[0])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
