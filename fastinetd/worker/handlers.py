"""Handlers, plain functions and coroutine functions: one connection after another, each with a status in the end.

Rules of this file
 - A connection ends with its handler: whatever is raised, SystemExit too, becomes a status; only the end of the process
   ends the worker. Its socket is shut and closed, its variables leave the environment.
 - What goes wrong is said to the log, never to a client.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any

from fastinetd.worker.log import log
from fastinetd.worker.protocol import AT_ONCE, Broken, Daemon, Message, Peer

Handler = Callable[[socket.socket, Peer], Any]


class Task:
    """A handler and its name: calls it, and makes a status of what comes of it."""

    def __init__(self, name: str, handler: Handler, *, to_syslog: bool = False) -> None:
        self.name = name
        self.handler = handler
        self.to_syslog = to_syslog

    def run(self, connection: socket.socket, peer: Peer) -> int:
        """Context variables are the connection's own, as they are for a task of asyncio."""
        try:
            result = copy_context().run(self.handler, connection, peer)
        except BaseException as error:
            return self._raised(error, peer)
        return 0 if result is None else self._status(result, peer)

    async def run_async(self, connection: socket.socket, peer: Peer) -> int:
        try:
            result = await self.handler(connection, peer)
        except BaseException as error:
            return self._raised(error, peer)
        return 0 if result is None else self._status(result, peer)

    def _status(self, result: object, peer: Peer) -> int:
        if isinstance(result, int) and 0 <= result <= 255:
            return result
        if isinstance(result, Coroutine):
            result.close()
            self._say("returned a coroutine, which nobody awaits: write the handler itself with async def", peer)
        else:
            number = isinstance(result, int) and -10_000 < result < 10_000
            what = result if number else f"something of type {type(result).__name__}"
            self._say(f"returned {what}: expected None or a status from 0 to 255", peer)
        return 1

    def _raised(self, error: BaseException, peer: Peer) -> int:
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            return (error.code or 0) & 255  # as the kernel makes of an exit status
        import traceback

        self._say(summary(error), peer, "".join(traceback.format_exception(error)))
        return 1

    def _say(self, what: str, peer: Peer, more: str = "") -> None:
        client = f"{peer.host or 'without an address'} {peer.port or ''}"
        log(f"handler {self.name}: {what} (client {client})", more, to_syslog=self.to_syslog)


def summary(error: BaseException) -> str:
    """The type and text of an exception."""
    try:
        text = str(error)
    except Exception:  # whatever a stranger's __str__ raises: one more must not end the worker
        text = "its text cannot be had"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def serve(daemon: Daemon, task: Task) -> None:
    status = 0
    while daemon.ready(status) and (message := daemon.receive()):
        connection, peer = daemon.accept(message)
        status = task.run(connection, peer)
        daemon.end_child(status)
        daemon.finish(connection)


async def serve_async(daemon: Daemon, task: Task) -> None:
    """The same for a coroutine function: one connection at a time, in a loop that never stops in between."""
    import asyncio

    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    current: list[asyncio.Task[None]] = []

    def end(error: Exception | None = None) -> None:
        loop.remove_reader(daemon.socket)
        if not over.done():
            over.set_result(None) if error is None else over.set_exception(error)

    async def take(message: Message) -> None:
        try:
            connection, peer = daemon.accept(message)
            descriptor = connection.fileno()
            status = await task.run_async(connection, peer)
            daemon.end_child(status)
            if connection.fileno() == descriptor:
                _release(loop, descriptor)
            daemon.finish(connection)
            if not daemon.ready(status):
                end()
        except Exception as error:
            end(error)

    def arrived() -> None:
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


def _release(loop: Any, descriptor: int) -> None:
    """End what a handler has left of its connection in the loop: the next one will have the same number."""
    transport = getattr(loop, "_transports", {}).get(descriptor)  # there is no other way to it
    if transport is not None:
        transport.abort()
    try:
        loop.remove_reader(descriptor)
        loop.remove_writer(descriptor)
    except RuntimeError as error:  # a loop that keeps its transports elsewhere
        raise Broken(f"a handler must close its connection's transport before it returns: {error}") from error
