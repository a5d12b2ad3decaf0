"""Wait services: servers are given the listening or datagram socket itself and keep it until they exit.

Theory. One machine for each socket; its states and the ways between them are a table of their own (wait_states.py). It
starts up to N servers: N is `instances` where the service itself says 2 or more, else 1. No server runs and something
comes: one is started, at once. While fewer than N servers run the machine looks on (SHARED), and starts another
one when what is in the queue is not taken (GRACE, queue_demand.py). With N servers the socket is left alone (FULL).

A server that ends soon after its start, and leaves what woke it in the queue, does not read: the next start waits a
growing pause (COOLDOWN). A stream's queue has a length only, which says little: once a server has ended soon and left
clients waiting, the kernel is asked which (`pending`). A start that failed, or a limit that time will lift, pauses too.

Nothing in the queue is thrown away, but what a limit or an address rule refuses: that one datagram or client. While
servers run not even that, for it is theirs to read and may be another datagram or client by the time it is taken off:
then just no further server is started for it. What servers have changed on the socket is set back once the last one has
ended.

Rules of this file: the state alone says whether the socket is watched and whether a timer runs; `_enter` sees to both.
Sockets are borrowed and blocking; their mode is the servers' as well, so it is not touched while any runs. Running
servers outlive a reload; their machine goes on with the new Program.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.core.layout import Verdict
from fastinetd.doorman.client import DoormanClient
from fastinetd.doorman.protocol import Subject
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.policy.back_off import BackOff
from fastinetd.services.children import Children
from fastinetd.services.installed import InstalledService
from fastinetd.services.pending import Clients, pending_clients
from fastinetd.services.queue_demand import QueueDemand
from fastinetd.services.queue_head import (
    Head,
    Peer,
    clear_errors,
    discard_first,
    first_sender,
    head_of_queue,
    is_hung_up,
    is_spoilt,
)
from fastinetd.services.socket_settings import CONFIGURED, restore_settings, settings_of
from fastinetd.services.wait_states import TRANSITIONS, WATCHING, State
from fastinetd.system.loop import Loop, Timer

READ_WITHIN = 1.0
"""Seconds after its start within which the end of a server that has not read counts against it."""

WARN_FROM_PAUSE = 1.0
"""Seconds of pause from which on the log says that a server does not read: once may be an accident."""

VAIN_WAKEUPS = 8
"""Wake-ups without a datagram after which the socket is left alone for SHORT_PAUSE."""

SHORT_PAUSE = 0.1
"""Seconds that a socket is left alone without anything being certainly wrong."""

FULL_ELSEWHERE_PAUSE = 0.5
"""Seconds until the next attempt when the service's servers all run on its other sockets."""

GRACE_LONGEST, GRACE_LONGEST_STREAM = 30.0, 0.2
"""Seconds of grace pause at most. A stream's queue may be as long as before although servers take clients: these are
not held up for long."""


class Server(NamedTuple):
    """A running server: when it was started, what was first in the queue then, and who was in it, if that was asked."""

    started: float
    first: Head | None
    clients: Clients | None


@dataclass(frozen=True)
class WaitContext:
    """What the machines of all sockets work with."""

    board: Board
    loop: Loop
    keeper: Keeper
    children: Children
    questions: DoormanClient
    messages: DaemonLog
    replace_socket: Callable[[socket.socket], None]
    """Replaces a socket that its server has spoilt. It is called, as the machines are made and kept by others: the
    sockets of the same endpoint are replaced together, and their machines withdrawn before (wait_services.py)."""


class WaitSocket:
    """The machine of one socket."""

    def __init__(self, installed: InstalledService, sock: socket.socket, context: WaitContext) -> None:
        self.installed = installed
        self.sock = sock
        self.state = State.IDLE
        self.servers: dict[int, Server] = {}  # by pid
        self._context = context
        self._board, self._loop, self._keeper = context.board, context.loop, context.keeper
        self._dgram = sock.type == socket.SOCK_DGRAM
        self._back_off = BackOff()
        self._demand = QueueDemand(GRACE_LONGEST if self._dgram else GRACE_LONGEST_STREAM)
        self._vain_wakeups = 0  # in a row, without a datagram
        self._timer: Timer | None = None
        self._watched = False
        self._first_at_start: Head | None = None  # what was first in the queue at the last start
        self._first_at_question: Head | None = None  # and at the last question
        self._suspect = False  # the last server of a stream ended soon, and clients were waiting
        self._own = settings_of(sock)
        self._prepare_queue()
        self._watch_or_not()

    def use(self, installed: InstalledService) -> None:
        """After a reload: the service as it is now. More servers may run than there may be; they are left alone."""
        if installed.planned.options != self.installed.planned.options:
            self._own |= settings_of(self.sock, CONFIGURED)
        self.installed = installed
        self._prepare_queue()
        if self.state in (State.SHARED, State.FULL) or (self.state is State.GRACE and self._full()):
            self._settle()

    def withdraw(self) -> None:
        """The service is gone: leave the socket alone. Running servers keep their own descriptors of it."""
        self._enter(State.GONE)

    # ---- the state, and what goes with it ----

    def _enter(self, state: State, pause: float = 0.0, then: Callable[[], None] | None = None) -> None:
        """Be in a state; `then` is called when it has lasted `pause` seconds."""
        if (self.state, state) not in TRANSITIONS:
            raise AssertionError(f"wait socket: {self.state.value} -> {state.value}")
        self.state = state
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.later(pause, then) if then is not None else None
        self._watch_or_not()

    def _watch_or_not(self) -> None:
        wanted = self.state in WATCHING
        if wanted and not self._watched:
            self._loop.watch(self.sock.fileno(), self._readable)
        elif self._watched and not wanted:
            self._loop.unwatch(self.sock.fileno())
        self._watched = wanted

    def _full(self) -> bool:
        return len(self.servers) >= self.installed.planned.share

    def _settle(self) -> None:
        """Wait for the socket, or for a server's end."""
        state = State.FULL if self._full() else State.SHARED if self.servers else State.IDLE
        if state is not self.state:
            self._enter(state)

    def _cool_down(self, seconds: float, then: Callable[[], None] | None = None) -> None:
        """Start no server for so long; then settle, or call `then`."""
        self._demand.begin_anew(len(self.servers))
        self._enter(State.COOLDOWN, seconds, then or self._settle)

    def _settle_after_rate(self) -> None:
        """The rate allows a start: what waited for it may be gone, servers may have taken it meanwhile."""
        if self._head() is None:
            self._queue_emptied()
        self._settle()

    def _look_in(self, seconds: float) -> None:
        """Give the servers so long to take what is in the queue."""
        self._enter(State.GRACE, seconds, self._look_at_queue)

    # ---- what happens ----

    def _readable(self, events: int) -> None:
        broken = not self._dgram and events & select.EPOLLHUP
        if self.state is State.SHARED and events & select.EPOLLIN and not broken:
            self._vain_wakeups = 0
            self._look_in(self._demand.next_look)
            return
        peer = first_sender(self.sock) if self._dgram else (b"", 0)
        if peer is None or broken or self.state is State.SHARED:
            self._woken_in_vain(events)
            return
        self._vain_wakeups = 0
        self._start_or_refuse(peer, vouched=False)

    def _woken_in_vain(self, events: int) -> None:
        """Woken, but not by a client: an error of an earlier answer, or a server that has shut the socket down."""
        if events & select.EPOLLHUP:
            self._context.replace_socket(self.sock)
            return
        if events & select.EPOLLERR:
            clear_errors(self.sock)
        self._vain_wakeups += 1
        if self._vain_wakeups > VAIN_WAKEUPS:
            self._cool_down(SHORT_PAUSE)

    def _look_at_queue(self) -> None:
        """A part of the grace pause is over."""
        peer = first_sender(self.sock) if self._dgram else (b"", 0)
        if peer is None or self._head() is None or is_hung_up(self.sock):
            self._queue_emptied()
            self._settle()  # where the event tells of a socket that was shut down
        elif self._demand.calls_for_another(len(self.servers), time.monotonic()):
            self._start_or_refuse(peer, vouched=False)
        else:
            self._look_in(self._demand.next_look)

    def _answered(self, peer: Peer, answer: bool | None) -> None:
        """The doorman's answer about the sender of the first datagram; None: there was none."""
        if self.state is not State.ASKING:
            return
        first = self._head()
        if self._full() or first is None or not first.same(self._first_at_question):
            self._settle()  # N was lowered, or a server has taken it meanwhile
        elif answer:
            self._start_or_refuse(peer, vouched=True)
        else:
            self._refuse(Verdict.DOORMAN if answer is None else Verdict.NAME, peer)

    def _server_ended(self, pid: int) -> None:
        server = self.servers.pop(pid)
        if self.state is State.GONE and not self._is_acceptors():
            return
        if not self.servers and (is_spoilt(self.sock) or not restore_settings(self.sock, self._own)):
            self._context.replace_socket(self.sock)
            return
        if self.state is State.GONE:
            return
        first = self._head()
        if first is None:
            self._queue_emptied()
        if self.state is State.ASKING:
            return
        if first is None or time.monotonic() - server.started >= READ_WITHIN:
            self._suspect = False
        elif not self._has_read(server, first):
            if self.state is not State.COOLDOWN:
                self._pause_after_failure(certain=self._dgram or server.clients is not None)
            return
        self._back_off.succeeded()
        if first is not None and self.servers and not self._full():
            self._look_in(0.0)  # not from here: clients that come and servers that go would keep the loop from turning
        else:
            self._settle()

    def _is_acceptors(self) -> bool:
        """Whether the socket is open, and acceptors have it by now: the service has become one without wait."""
        return self.sock.fileno() >= 0 and not self.sock.getblocking()

    def _has_read(self, server: Server, first: Head) -> bool:
        """Whether a server that ended soon has taken anything of what it found in the queue, which is not empty now."""
        if self._dgram:
            return not first.same(server.first)
        now = pending_clients(self.sock) if server.clients is not None else None
        taken = not first.same(server.first) if server.clients is None or now is None else not server.clients <= now
        self._suspect = not taken or server.clients is None
        return taken

    def _pause_after_failure(self, *, certain: bool) -> None:
        """A server has not read, or (not `certain`) a stream's queue is as long as it was when the server came."""
        before = self._back_off.pause
        self._cool_down(self._back_off.failed() if certain else SHORT_PAUSE)
        if before < WARN_FROM_PAUSE <= self._back_off.pause:
            self._context.messages.warning(
                f"service {self.installed.planned.id}: its server ends again and again and leaves what waits; "
                "it is started with growing pauses, mend the program"
            )

    # ---- starting servers ----

    def _start_or_refuse(self, peer: Peer, *, vouched: bool) -> None:
        """Start a server for what is first in the queue, or do what the verdict says. `vouched`: the doorman has
        allowed the sender."""
        row = self.installed.row
        first = self._head()
        clients = pending_clients(self.sock) if self._suspect else None
        if not self.servers:
            self.sock.setblocking(True)  # acceptors had it before, or the last server left it otherwise
        verdict, slot, pid = self._keeper.start(self.installed.program, self.sock.fileno(), *peer, vouched=vouched)
        if verdict == Verdict.ASK:
            self._first_at_question = first
            self._enter(State.ASKING)
            self._context.questions.ask(Subject(row, peer[0]), lambda answer: self._answered(peer, answer))
        elif verdict == Verdict.RATE and self.installed.planned.service.over_rate.value == "wait":
            self._keeper.begin_rate_wait(row)
            self._cool_down(max(self._board.rate_wait(row), 0.001), self._settle_after_rate)
        elif verdict != Verdict.ADMIT:
            self._refuse(verdict, peer)
        elif slot < 0:
            self._cool_down(self._back_off.failed())
        else:
            self._server_started(pid, slot, first, clients)

    def _server_started(self, pid: int, slot: int, first: Head | None, clients: Clients | None) -> None:
        """A server runs. If what was first at the start before this one is first still, that one did not help."""
        now = time.monotonic()
        helped = not self.servers or first is None or not first.same(self._first_at_start)
        self._demand.server_started(now, helped=helped)
        self._first_at_start = first
        self.servers[pid] = Server(now, first, clients)
        self._board.count_activation(0, self.installed.row)
        self._context.children.started(pid, slot, lambda: self._server_ended(pid))
        if self._full():
            self._enter(State.FULL)
        else:
            self._look_in(self._demand.next_look)

    def _refuse(self, verdict: Verdict, peer: Peer) -> None:
        """Start no server for what is first in the queue, and take that off, unless servers run that may read it."""
        if self.servers:
            self._demand.server_refused(len(self.servers))
            self._look_in(self._demand.next_look)
        elif verdict == Verdict.INSTANCES and self.installed.planned.share > 1:
            self._cool_down(FULL_ELSEWHERE_PAUSE)
        else:
            self._settle()
            self._keeper.refuse(self.installed.program, verdict, *discard_first(self.sock, peer))

    # ---- the queue ----

    def _prepare_queue(self) -> None:
        """Where servers will share the queue, have the kernel keep the time of each datagram from now on: a first look
        does it. One that came before has none while servers read, and equal ones without a time count as the same."""
        if self.installed.planned.share > 1 and not self.servers:
            self._head()

    def _head(self) -> Head | None:
        return head_of_queue(self.sock, shared=bool(self.servers))

    def _queue_emptied(self) -> None:
        """The queue was empty: the servers are doing well, and nothing waits for the rate."""
        self._keeper.end_rate_wait(self.installed.row)
        self._demand.queue_emptied(len(self.servers))
