"""`python -m fastinetd.worker module:function`: the program that the daemon starts for `handler = module:function`.

Signals have their defaults, so SIGTERM ends a worker as it ends a server that was started by exec. A handler that has
work to finish first installs a signal handler of its own.
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

from fastinetd.worker.handlers import Handler, Task, serve, serve_async, summary_of
from fastinetd.worker.log import clients_only, log
from fastinetd.worker.protocol import VARIABLE, Broken, Daemon, Peer, close, open_daemon, open_only_connection

IDENT = "fastinetd-worker"
"""The name of workers in syslog and in sys.argv."""

CANNOT = 78
"""Exit status of a worker that cannot serve any client: EX_CONFIG of sysexits.h."""


def _load_handler(name: str) -> Handler:
    """The function of MODULE:FUNCTION. Raises what importing its module raises, AttributeError or TypeError."""
    module, _, attribute = name.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{attribute} cannot be called: it is of type {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def _is_async(handler: Any) -> bool:
    """Whether a handler is a coroutine function: inspect.iscoroutinefunction without the import of inspect."""
    while isinstance(handler, partial):
        handler = handler.func
    if hasattr(handler, "_is_coroutine_mark") or hasattr(handler, "_is_coroutine"):
        return True
    codes = (getattr(function, "__code__", None) for function in (handler, type(handler).__call__))
    return any(code is not None and code.co_flags & 0x80 for code in codes)  # CO_COROUTINE


def _report_import(name: str, error: BaseException, to_syslog: bool) -> int:
    """Log why a handler cannot be imported, with the remedy; returns the exit status."""
    import traceback

    what_to_do = "correct its module, as the traceback says"
    if isinstance(error, ModuleNotFoundError):
        what_to_do = (
            "write `env = PYTHONPATH=/the/folder/of/the/module`, a folder that the service's user may read, or install "
            f"it for {sys.executable}"
        )
    line = f"handler {name} cannot be imported: {summary_of(error)}; {what_to_do}"
    _log_trouble(line, "".join(traceback.format_exception(error)), to_syslog)
    return CANNOT


def _log_trouble(line: str, more: str, to_syslog: bool) -> None:
    """Log a line, and more lines, to the daemon; or to syslog and, for a start by hand, to standard error."""
    log(line, more, to_syslog=to_syslog)
    if to_syslog:
        print(f"{IDENT}: {line}", more, sep="\n", end="", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Run a worker for the handler in `arguments`; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own would raise KeyboardInterrupt within a handler
    sys.argv[:] = [IDENT, *arguments]
    syslog.openlog(IDENT, syslog.LOG_PID, syslog.LOG_DAEMON)
    to_syslog = VARIABLE not in os.environ and clients_only()
    if len(arguments) != 1 or not all(arguments[0].partition(":")):
        _log_trouble(f"expected one argument, module:function, and not {' '.join(arguments) or 'none'}", "", to_syslog)
        return CANNOT
    name, trouble, alone = arguments[0], None, None
    try:
        daemon = open_daemon()
        if daemon is None:
            alone = open_only_connection()
    except Broken as error:
        trouble = error
    try:
        handler = _load_handler(name)
    except (Exception, SystemExit) as error:
        return _report_import(name, error, to_syslog)
    if trouble is not None:
        _log_trouble(f"handler {name} can be imported, but {trouble}", "", to_syslog)
        return CANNOT
    try:
        return _run_task(Task(name, handler, to_syslog=to_syslog), daemon, alone)
    except Exception as error:
        _log_trouble(f"handler {name}: this worker ends: {summary_of(error)}", "", to_syslog)
        return 1


def _run_task(task: Task, daemon: Daemon | None, alone: tuple[socket, Peer] | None) -> int:
    """Serve the daemon's connections until it has no more, or the only one, `alone`; returns the exit status."""
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
