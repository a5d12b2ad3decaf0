"""The monitor: the role without privileges that serves /metrics and the health pages, from the Board.

Theory. One thread, one loop. A connection is in one of three states, and each has a deadline:

    HEAD    waiting for a request, or for the rest of one; also while a complete one waits for its turn
    ANSWER  sending; nothing is read meanwhile
    LINGER  the last answer is sent; bytes that still come are dropped until the client closes. If the client has
            said that nothing comes, and nothing has, the connection is closed at once instead

A request is answered without interruption, and a large page may take a second; a connection gets one answer in each
turn of the loop, so a client that sends many requests ahead delays others by one page each. Without connections nothing
wakes the process: the loop sleeps until the next deadline, and without one for ever.

A byte on the control descriptor retires the role: the listener is closed at once, and clients that were accepted but
not yet answered have a second left, so that a reload costs no scrape. When the control descriptor ends, the supervisor
is gone, and the monitor ends too.

Rules of this file
 - Nothing that a client does or leaves undone raises out of the loop, and no client is waited for.
 - All that clients can make the process hold is bounded: connections, bytes received, bytes not yet sent.
 - All that is needed is imported with this module: its process may not be able to read the program's files.
"""

from __future__ import annotations

import html
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum, auto
from functools import partial
from http import HTTPStatus

from fastinetd.core.board import Board
from fastinetd.monitor.http import (
    HEAD_LIMIT,
    Answer,
    BadRequest,
    Request,
    encode_answer,
    parse_head,
    plain_answer,
    take_head,
)
from fastinetd.monitor.metrics import BoardCollector, ServiceInfo, make_page
from fastinetd.monitor.readiness import Readiness, Unserved
from fastinetd.system import listen_queues

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
RESET = struct.pack("ii", 1, 0)  # struct linger: close at once, drop bytes that are not sent (socket(7))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits on clients, in seconds but for the last two."""

    head: float = 10.0  # from the connection, or the first byte of a later request, to the end of its head
    idle: float = 120.0  # between an answer and the next request
    send: float = 30.0  # without any of the answer leaving
    linger: float = 2.0
    retire: float = 1.0  # for clients that are connected when the role is retired
    pause: float = 1.0  # after accept(2) failed
    connections: int = 128
    unsent: int = 64 << 20  # bytes of answers, over all connections


class State(Enum):
    """The state of a connection, as in this module's docstring."""

    HEAD = auto()
    ANSWER = auto()
    LINGER = auto()
    CLOSED = auto()


@dataclass(slots=True, eq=False)
class Connection:
    """A client's connection; times are of CLOCK_MONOTONIC in seconds."""

    socket: socket.socket  # owned
    since: float  # start of the present state
    deadline: float
    state: State = State.HEAD
    received: bytearray = field(default_factory=bytearray)
    head: bytes | None = None  # a complete request, which waits for its turn
    begun: bool = True  # the head's deadline runs; False between two requests
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    keep: bool = True  # another request may follow the answer
    finished: bool = False  # nothing may follow it: its client has said so
    wants: int = READ


class Server:
    """An HTTP server on a listening socket (borrowed, but closed on retirement), until `control_fd` retires it."""

    def __init__(self, listener: socket.socket, control_fd: int, answer: Callable[[Request], Answer],
                 bounds: Bounds) -> None:
        self._listener = listener
        self._control_fd = control_fd
        self._answer = answer
        self._bounds = bounds
        self._connections: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._paused_until: float | None = None  # the listener is not watched
        self._leave_by: float | None = None  # retired

    def serve(self) -> None:
        """Serve until retirement. Raises nothing that a client can cause."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, READ, self._accept)
        self._selector.register(self._control_fd, READ, self._read_control)
        with self._selector:
            while self._leave_by is None or (self._connections and time.monotonic() < self._leave_by):
                events = self._selector.select(self._seconds_to_deadline())
                now = time.monotonic()  # events before a deadline count, however long the answers to them take
                for key, _ in events:
                    key.data()
                self._expire(now)
            for connection in list(self._connections):
                self._close(connection)

    def _seconds_to_deadline(self) -> float | None:
        """Seconds until the next deadline; None without one."""
        due = [connection.deadline for connection in self._connections]
        due += [moment for moment in (self._paused_until, self._leave_by) if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _expire(self, now: float) -> None:
        """Watch the listener again after a pause, and answer or close connections past their deadline."""
        if self._paused_until is not None and self._paused_until <= now and self._leave_by is None:
            self._paused_until = None
            self._selector.register(self._listener, READ, self._accept)
        for connection in [late for late in self._connections if late.deadline <= now]:
            if connection.state is State.HEAD and connection.received:
                self._start_answer(connection, plain_answer(HTTPStatus.REQUEST_TIMEOUT), keep=False)
            else:
                self._close(connection)

    # ---- the control descriptor and the listener ----

    def _read_control(self) -> None:
        """Retire on a byte from the supervisor; leave at once at the end of file, which means that it is gone."""
        try:
            ended = not os.read(self._control_fd, 512)
        except BlockingIOError:
            return
        except OSError:  # the other end of a socket was reset
            ended = True
        if self._leave_by is None:
            if self._paused_until is None:
                self._selector.unregister(self._listener)
            self._paused_until = None
            self._listener.close()
            self._leave_by = time.monotonic() + self._bounds.retire
        if ended:
            self._selector.unregister(self._control_fd)
            self._leave_by = time.monotonic()
        for connection in list(self._connections):
            if connection.state is State.LINGER or not connection.begun:
                self._close(connection)

    def _accept(self) -> None:
        """Accept up to 16 clients; when that fails close a connection and do not listen for a while."""
        for _ in range(16 if self._leave_by is None else 0):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # most likely EMFILE or ENFILE: a descriptor less, and a pause
                self._evict()
                self._selector.unregister(self._listener)
                self._paused_until = time.monotonic() + self._bounds.pause
                return
            if len(self._connections) >= self._bounds.connections:
                self._evict()
            client.setblocking(False)
            with suppress(OSError):  # not on a unix socket
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            now = time.monotonic()
            connection = Connection(client, now, now + self._bounds.head)
            self._connections.add(connection)
            self._selector.register(client, READ, partial(self._attempt, connection, self._handle_event))

    def _evict(self) -> None:
        """Close the connection that has been in its state for longest; one that is being answered only if all are."""
        if self._connections:
            self._close(min(self._connections, key=lambda c: (c.state is State.ANSWER, c.since)))

    # ---- connections ----

    def _enter_state(self, connection: Connection, state: State, seconds: float) -> None:
        """Put a connection into a state, with a deadline after so many seconds."""
        connection.state = state
        connection.since = time.monotonic()
        connection.deadline = connection.since + seconds

    def _watch(self, connection: Connection, events: int) -> None:
        """Have the selector watch a connection for these events."""
        if events != connection.wants:
            key = self._selector.get_key(connection.socket)
            self._selector.modify(connection.socket, events, key.data)
            connection.wants = events

    def _close(self, connection: Connection) -> None:
        """Close a connection; with a reset if an answer is unsent in part, or the kernel would keep the other part."""
        if connection.state is not State.CLOSED:
            if connection.unsent:
                with suppress(OSError):
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.state = State.CLOSED
            connection.unsent = memoryview(b"")
            self._connections.discard(connection)
            self._selector.unregister(connection.socket)
            connection.socket.close()

    def _attempt(self, connection: Connection, action: Callable[[Connection], None]) -> None:
        """Do something with a connection. What would wait for the client goes on with the next event; a connection
        that has failed is closed."""
        try:
            action(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)

    def _handle_event(self, connection: Connection) -> None:
        """Do what an event asks for in the connection's state; nothing for one that was closed in this turn."""
        match connection.state:
            case State.HEAD if connection.head is not None:
                self._respond(connection)
            case State.HEAD:
                self._receive(connection)
            case State.ANSWER:
                self._send(connection)
            case State.LINGER:
                if not connection.socket.recv(HEAD_LIMIT):
                    self._close(connection)

    def _receive(self, connection: Connection) -> None:
        """Receive bytes of a request, and answer the request if it is complete."""
        data = connection.socket.recv(HEAD_LIMIT)
        if not data:
            self._close(connection)
            return
        connection.received += data
        if not connection.begun:
            connection.begun = True
            self._enter_state(connection, State.HEAD, self._bounds.head)
        if self._look_for_head(connection):
            self._respond(connection)

    def _look_for_head(self, connection: Connection) -> bool:
        """Whether a request is complete: then it is in `head`. One that is too long is answered."""
        try:
            connection.head = take_head(connection.received)
        except BadRequest as wrong:
            self._start_answer(connection, plain_answer(wrong.status), keep=False)
        return connection.head is not None

    def _respond(self, connection: Connection) -> None:
        """Answer the request in the connection's `head`."""
        head, connection.head = connection.head, None
        assert head is not None
        try:
            request = parse_head(head)
        except BadRequest as wrong:
            self._start_answer(connection, plain_answer(wrong.status), keep=False)
            return
        # Slow readers of large pages: the one whose deadline is next loses its answer.
        while sum(len(other.unsent) for other in self._connections) > self._bounds.unsent:
            self._close(min((c for c in self._connections if c.unsent), key=lambda c: c.deadline))
        try:
            answer = self._answer(request)
        except Exception as fault:  # the client gets its type; the next page may have no fault
            answer = plain_answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"no page: {type(fault).__name__}")
        connection.finished = request.is_last
        self._start_answer(connection, answer, keep=request.keep_alive, with_body=request.method != "HEAD")

    def _start_answer(self, connection: Connection, answer: Answer, *, keep: bool, with_body: bool = True) -> None:
        """Begin to send an answer; `keep`: another request may follow."""
        connection.keep = keep and self._leave_by is None
        date = formatdate(usegmt=True)
        connection.unsent = memoryview(
            encode_answer(answer, date=date, with_body=with_body, keep_alive=connection.keep))
        self._enter_state(connection, State.ANSWER, self._bounds.send)
        self._watch(connection, WRITE)
        self._attempt(connection, self._send)

    def _send(self, connection: Connection) -> None:
        """Send what is unsent, and go to the next state. Raises BlockingIOError when the client does not read."""
        while connection.unsent:
            sent = connection.socket.send(connection.unsent, socket.MSG_NOSIGNAL)
            connection.unsent = connection.unsent[sent:]
            connection.deadline = time.monotonic() + self._bounds.send
        connection.unsent = memoryview(b"")
        if connection.keep and self._leave_by is None:
            self._enter_state(connection, State.HEAD, self._bounds.idle)
            connection.begun = bool(connection.received)
            if self._look_for_head(connection):
                self._watch(connection, WRITE)  # as it is writable, the next turn answers the request
            elif connection.state is State.HEAD:
                self._watch(connection, READ)
                if connection.begun:
                    self._enter_state(connection, State.HEAD, self._bounds.head)
        elif self._leave_by is None and (not connection.finished or has_unread(connection.socket)):
            # Closed with bytes that are not read, or before they come, the client would get a reset and no answer.
            connection.socket.shutdown(socket.SHUT_WR)
            self._enter_state(connection, State.LINGER, self._bounds.linger)
            self._watch(connection, READ)
        else:
            self._close(connection)


def has_unread(connection: socket.socket) -> bool:
    """Whether bytes of a client are there that have not been received."""
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


class Pages:
    """The pages of the monitor, by path."""

    def __init__(self, collector: BoardCollector, readiness: Readiness, version: str) -> None:
        self._collector = collector
        self._readiness = readiness
        self._landing = landing_page(version)

    def answer(self, request: Request) -> Answer:
        """The answer to a request: a page, 404 or, for another method than GET and HEAD, 405."""
        if request.method not in ("GET", "HEAD"):
            return plain_answer(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        match request.path:
            case "/metrics":
                accept, encoding = (request.headers.get(name, "") for name in ("accept", "accept-encoding"))
                return make_page(self._collector, accept, encoding)
            case "/-/healthy":
                return plain_answer(HTTPStatus.OK, "healthy")
            case "/-/ready":
                return self._readiness.answer(request.query)
            case "/":
                return Answer(HTTPStatus.OK, self._landing, "text/html; charset=utf-8")
        return plain_answer(HTTPStatus.NOT_FOUND)


def landing_page(version: str) -> bytes:
    """The HTML page of the path /, with links to the others."""
    links = (("/metrics", "metrics"), ("/-/healthy", "healthy"), ("/-/ready", "ready"))
    items = "".join(f'<li><a href="{path}">{name}</a></li>\n' for path, name in links)
    name = html.escape(f"fastinetd {version}")
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{name}</title></head>\n'
            f"<body>\n<h1>{name}</h1>\n<ul>\n{items}</ul>\n</body>\n</html>\n").encode(errors="replace")


def run(listener_fd: int, control_fd: int, board: Board, services: Sequence[ServiceInfo], *, version: str,
        unserved: Sequence[Unserved] = (), bounds: Bounds | None = None) -> None:
    """Run the monitor: serve until a byte or end of file comes on `control_fd`.

    Takes `listener_fd`, a listening stream socket, and closes it when retired; borrows `control_fd`, the reading end of
    a pipe or a socket; `board` may be mapped read-only. Needs no privilege, and opens no file but in /proc. Raises
    OSError when a descriptor is of another kind.
    """
    collector = BoardCollector(board, services, version, listen_queues.read_queues)
    readiness = Readiness(board, services, unserved)
    with socket.socket(fileno=listener_fd) as listener:
        Server(listener, control_fd, Pages(collector, readiness, version).answer, bounds or Bounds()).serve()


