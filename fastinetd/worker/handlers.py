"""Runs handlers, plain functions and coroutine functions: one connection after another, each with a status at its end.

Rules of this file
 - A connection ends with its handler: an exception, also SystemExit, becomes a status; only the end of the process
   ends the worker. The connection's socket is shut and closed, its variables leave the environment.
 - Errors are logged, never sent to a client.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from fastinetd.worker.log import log
from fastinetd.worker.protocol import AT_ONCE, Broken, Daemon, Message, Peer

Handler = Callable[[socket.socket, Peer], Any]
"""A handler returns None or a status from 0 to 255; a coroutine function returns a coroutine."""


class Task:
    """A handler with its name; calls it and makes a status of what it returns or raises."""

    def __init__(self, name: str, handler: Handler, *, to_syslog: bool = False) -> None:
        self.name = name
        self.handler = handler
        self.to_syslog = to_syslog

    def run(self, connection: socket.socket, peer: Peer) -> int:
        """Call a plain function, in a context of its own as asyncio gives to a task; returns the status, 0 to 255."""
        try:
            result = copy_context().run(self.handler, connection, peer)
        except BaseException as error:
            return self._status_of_error(error, peer)
        return 0 if result is None else self._status_of_result(result, peer)

    async def run_async(self, connection: socket.socket, peer: Peer) -> int:
        """Call a coroutine function; returns the status, 0 to 255."""
        try:
            result = await self.handler(connection, peer)
        except BaseException as error:
            return self._status_of_error(error, peer)
        return 0 if result is None else self._status_of_result(result, peer)

    def _status_of_result(self, result: object, peer: Peer) -> int:
        """The status for a value that the handler returned; a value that is none is logged, and its status is 1."""
        if isinstance(result, int) and 0 <= result <= 255:
            return result
        if isinstance(result, Coroutine):
            result.close()
            self._log("returned a coroutine, which nobody awaits: write the handler itself with async def", peer)
        else:
            number = isinstance(result, int) and -10_000 < result < 10_000
            what = result if number else f"something of type {type(result).__name__}"
            self._log(f"returned {what}: expected None or a status from 0 to 255", peer)
        return 1

    def _status_of_error(self, error: BaseException, peer: Peer) -> int:
        """The status for an exception of the handler: that of SystemExit, else 1 and a traceback in the log."""
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            return (error.code or 0) & 255  # as the kernel makes of an exit status
        import traceback

        self._log(summary_of(error), peer, "".join(traceback.format_exception(error)))
        return 1

    def _log(self, what: str, peer: Peer, more: str = "") -> None:
        """Log an error of the handler with the address of its client."""
        client = f"{peer.host or 'without an address'} {peer.port or ''}"
        log(f"handler {self.name}: {what} (client {client})", more, to_syslog=self.to_syslog)


def summary_of(error: BaseException) -> str:
    """The type and text of an exception."""
    try:
        text = str(error)
    except Exception:  # whatever the __str__ of an exception raises must not end the worker
        text = "its text cannot be had"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def serve(daemon: Daemon, task: Task) -> None:
    """Serve the daemon's connections with a plain function, until the daemon has no more."""
    status = 0
    while daemon.ready(status) and (message := daemon.receive()):
        connection, peer = daemon.accept(message)
        status = task.run(connection, peer)
        daemon.end_child(status)
        daemon.finish(connection)


async def serve_async(daemon: Daemon, task: Task) -> None:
    """Serve the daemon's connections with a coroutine function, one at a time, until the daemon has no more.

    The event loop keeps running between connections, so tasks that a handler leaves in it go on.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    current: list[asyncio.Task[None]] = []

    def end(error: Exception | None = None) -> None:
        """Have serve_async return, or raise `error`."""
        loop.remove_reader(daemon.socket)
        if not over.done():
            over.set_result(None) if error is None else over.set_exception(error)

    async def take(message: Message) -> None:
        """Serve the connection of a message and ask for the next."""
        try:
            connection, peer = daemon.accept(message)
            descriptor = connection.fileno()
            status = await task.run_async(connection, peer)
            daemon.end_child(status)
            if connection.fileno() == descriptor:  # else the handler has closed it, and the number may be another's
                _release_connection(loop, descriptor)
            daemon.finish(connection)
            if not daemon.ready(status):
                end()
        except Exception as error:
            end(error)

    def arrived() -> None:
        """Receive a message and begin to serve its connection."""
        try:
            message = daemon.receive(AT_ONCE)
        except BlockingIOError:
            return
        if message is None:
            end()
        else:
            current[:] = [loop.create_task(take(message))]

    loop.add_reader(daemon.socket, arrived)
    if daemon.ready(0):
        await over
        await asyncio.gather(*current)


def _release_connection(loop: Any, descriptor: int) -> None:
    """End transport and watches that a handler has left on its connection: the next one will have the same number."""
    transport = getattr(loop, "_transports", {}).get(descriptor)  # asyncio has no public access to it
    if transport is not None:
        transport.abort()
    try:
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)
    except RuntimeError as error:  # a loop such as uvloop keeps its transports elsewhere
        raise Broken(f"a handler must close its connection's transport before it returns: {error}") from error
