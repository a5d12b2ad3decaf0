"""Wait services: servers are given the listening or datagram socket itself and keep it until they exit.

Theory. One machine per socket. It holds up to N servers: N is `instances` where the service itself says 2 or more,
else 1. Nobody runs and something comes: a server is started, at once. While servers run the queue is theirs; with
fewer than N of them the machine looks on (SHARED), and what is there has a grace pause to be taken in (GRACE). A queue
that was empty at any of the looks during that pause has servers enough. One that was not calls for one server more, and
the next pause grows when the last server started has not helped: what was first then is first still. `called_for` is
how many servers the queue has called for since it was empty last: when one of those ends and something waits, another
takes its place at once, which may be one too many and then waits for the next client. With N servers the socket is left
alone (FULL).

Was what woke a server still there when it ended soon after its start, it did not read: the next start waits a growing
pause (COOLDOWN). A stream's queue has a length only, which says little: once a server has ended soon and left somebody
waiting, it is asked who waits (`pending`). A start that failed, or a limit that time will lift, pauses too. Nothing in
the queue is thrown away, but what a limit or an address rule refuses: that one datagram or client. Nor is that while
servers run, for it is theirs to read and may be another's by the time it is taken: then just no further server is
started for it. What servers have changed on the socket is set back once the last one has ended.

    state        event          next       action
    IDLE         readable       GRACE      start a server; FULL if one is all there may be
    IDLE         readable       IDLE       refuse one datagram or client
    IDLE GRACE   start          COOLDOWN   the rate is used up, the start failed, or all N run on other sockets
    IDLE SHARED  woken in vain  COOLDOWN   again and again, and nothing was there
    IDLE GRACE   start          ASKING     the sender's name decides: ask the doorman
    ASKING       answer         as a start from IDLE, or refused; GRACE: no server for it; as WATCHED if it is taken
    SHARED       readable       GRACE      see whether the servers take it
    GRACE        look           SHARED     the queue is empty
    GRACE        look           GRACE      not yet over; or over: start one server more
    GRACE        look           FULL       over: start the last server
    any but GONE server ends    GRACE      something waits, others run: another server in its place, at once
    any but GONE server ends    WATCHED    the queue is empty, or nobody is left
    any but GONE server ends    COOLDOWN   it did not read
    COOLDOWN     pause over     WATCHED
    any          N changes      WATCHED    only from SHARED, GRACE and FULL
    any          withdraw       GONE       leave the socket alone for good: the service is gone, or the last server has
                                           spoilt the socket and another is opened

    WATCHED is IDLE without servers, SHARED with fewer than N, FULL with N or, after a reload, more. Two ends change
    nothing but the number: while ASKING, and an end without having read while in COOLDOWN.

Rules of this file: the state alone says whether the socket is watched and whether a timer runs; `_go` sees to both.
Sockets are borrowed and blocking; their mode is the servers' as well, so it is not touched while any runs. Running
servers outlive a reload; their machine goes on with the new Program.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from fastinetd._accept import Keeper
from fastinetd.core.board import Board
from fastinetd.core.layout import Verdict
from fastinetd.doorman.client import DoormanClient
from fastinetd.policy.back_off import BackOff
from fastinetd.services.children import Children
from fastinetd.services.installed import InstalledService
from fastinetd.services.pending import Clients, pending
from fastinetd.services.queue_head import Head, Peer, clear_errors, first_sender, head, hung_up, spoilt, take_one
from fastinetd.services.socket_settings import CONFIGURED, restore, settings_of
from fastinetd.system.loop import Loop, Timer

SOON = 1.0
"""Seconds within which an exit without having read counts against the server."""

TOLD_FROM = 1.0
"""Seconds of pause from which on it is said that a server does not read: once may be an accident."""

IN_VAIN = 8
"""Wake-ups without a datagram after which the socket is left alone for a moment."""

LOOKS = 4
"""Looks at the queue in one grace pause: between them servers may have emptied it and clients filled it again."""

ELSEWHERE = 0.5
"""Seconds until the next attempt when the service's servers all run on its other sockets."""


class State(Enum):
    IDLE = "idle"
    ASKING = "asking"
    GRACE = "grace"
    SHARED = "shared"
    FULL = "full"
    COOLDOWN = "cooldown"
    GONE = "gone"


WATCHING = frozenset({State.IDLE, State.SHARED})
WATCHED = frozenset({State.IDLE, State.SHARED, State.FULL})
"""Where a machine settles that has nothing to wait for but its socket and its servers."""

TRANSITIONS = frozenset({
    *((State.IDLE, state) for state in (State.ASKING, State.GRACE, State.FULL, State.COOLDOWN)),
    *((State.ASKING, state) for state in (*WATCHED, State.GRACE, State.COOLDOWN)),
    *((State.GRACE, state) for state in (*WATCHED, State.ASKING, State.GRACE, State.COOLDOWN)),
    *((State.SHARED, state) for state in (State.IDLE, State.GRACE, State.FULL, State.COOLDOWN)),
    *((State.FULL, state) for state in (State.IDLE, State.SHARED, State.GRACE, State.COOLDOWN)),
    *((State.COOLDOWN, state) for state in (*WATCHED, State.GRACE)),
    *((state, State.GONE) for state in State),
})  # fmt: skip


class Server(NamedTuple):
    """A running server: when it was started, what was first in the queue then, and who was in it, if that was asked."""

    started: float
    sign: Head | None
    clients: Clients | None


class WaitSocket:
    """The machine of one socket."""

    def __init__(self, installed: InstalledService, sock: socket.socket, board: Board, loop: Loop, keeper: Keeper,
                 children: Children, questions: DoormanClient, renew: Callable[[socket.socket], None],
                 warn: Callable[[str], None]) -> None:
        self.installed = installed
        self.sock = sock
        self.state = State.IDLE
        self.servers: dict[int, Server] = {}  # by pid
        self._board = board
        self._loop = loop
        self._keeper = keeper
        self._children = children
        self._questions = questions
        self._dgram = sock.type == socket.SOCK_DGRAM
        self._back_off = BackOff()
        # A stream's queue may be as long as before although servers take clients: they are not held up for long.
        self._grace = BackOff(ceiling=30.0 if self._dgram else 0.2)
        self._grace.failed()  # its pause is the grace pause
        self._renew = renew
        self._warn = warn
        self._in_vain = 0  # wake-ups in a row without a datagram
        self._timer: Timer | None = None
        self._watched = False
        self._sign: Head | None = None  # what was first at the last start
        self._asked: Head | None = None  # and at the last question
        self._standing: float | None = None  # since when the queue was not seen empty, or called for the last server
        self._called_for = 1
        self._suspect = False  # the last server of a stream ended soon, and somebody was waiting
        self._own = settings_of(sock)
        self._prepare()
        self._watch()

    def use(self, installed: InstalledService) -> None:
        """After a reload: the service as it is now. More servers may run than there may be; they are left alone."""
        if installed.planned.options != self.installed.planned.options:
            self._own |= settings_of(self.sock, CONFIGURED)
        self.installed = installed
        self._prepare()
        if self.state in (State.SHARED, State.FULL) or (self.state is State.GRACE and self._full()):
            self._settle()

    def withdraw(self) -> None:
        """The service is gone: leave the socket alone. Running servers keep their own descriptors of it."""
        self._go(State.GONE)

    # ---- the state, and what goes with it ----

    def _go(self, state: State, pause: float = 0.0, then: Callable[[], None] | None = None) -> None:
        """Take a state; `then` is called when it has lasted `pause` seconds."""
        if (self.state, state) not in TRANSITIONS:
            raise AssertionError(f"wait socket: {self.state.value} -> {state.value}")
        self.state = state
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.later(pause, then) if then is not None else None
        self._watch()

    def _watch(self) -> None:
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
            self._go(state)

    def _cool(self, seconds: float, then: Callable[[], None] | None = None) -> None:
        self._enough()
        self._go(State.COOLDOWN, seconds, then or self._settle)

    def _rate_allows(self) -> None:
        """What waited for the rate may be gone: servers have taken it meanwhile."""
        if self._head() is None:
            self._emptied()
        self._settle()

    def _linger(self, pause: float) -> None:
        self._go(State.GRACE, pause, self._look)

    # ---- what happens ----

    def _readable(self, events: int) -> None:
        broken = not self._dgram and events & select.EPOLLHUP
        if self.state is State.SHARED and events & select.EPOLLIN and not broken:
            self._in_vain = 0
            self._linger(self._grace.pause / LOOKS)
            return
        peer = first_sender(self.sock) if self._dgram else (b"", 0)
        if peer is None or broken or self.state is State.SHARED:
            self._nothing_there(events)
            return
        self._in_vain = 0
        self._try(peer, vouched=False)

    def _nothing_there(self, events: int) -> None:
        """Woken, but not by a client: an error of an earlier answer, or a server that has shut the socket down."""
        if events & select.EPOLLHUP:
            self._renew(self.sock)
            return
        if events & select.EPOLLERR:
            clear_errors(self.sock)
        self._in_vain += 1
        if self._in_vain > IN_VAIN:
            self._cool(0.1)

    def _look(self) -> None:
        """A moment of the grace pause is over."""
        peer = first_sender(self.sock) if self._dgram else (b"", 0)
        if peer is None or self._head() is None or hung_up(self.sock):
            self._emptied()
            self._settle()  # where the event tells of a socket that was shut down
            return
        now = time.monotonic()
        if self._standing is None:
            self._standing = now
        if now - self._standing >= self._grace.pause:
            self._called_for, self._standing = len(self.servers) + 1, now
        if len(self.servers) < self._called_for:
            self._try(peer, vouched=False)
        else:
            self._linger(self._grace.pause / LOOKS)

    def _answered(self, peer: Peer, answer: bool | None) -> None:
        """The doorman's answer about the sender of the first datagram; None: there was none."""
        if self.state is not State.ASKING:
            return
        first = self._head()
        if self._full() or first is None or not first.same(self._asked):
            self._settle()  # N was lowered, or a server has taken it meanwhile
        elif answer:
            self._try(peer, vouched=True)
        else:
            self._refuse(Verdict.DOORMAN if answer is None else Verdict.NAME, peer)

    def _ended(self, pid: int) -> None:
        server = self.servers.pop(pid)
        if self.state is State.GONE and not self._is_acceptors():
            return
        if not self.servers and (spoilt(self.sock) or not restore(self.sock, self._own)):
            self._renew(self.sock)
            return
        if self.state is State.GONE:
            return
        first = self._head()
        if first is None:
            self._emptied()
        if self.state is State.ASKING:
            return
        if first is None or time.monotonic() - server.started >= SOON:
            self._suspect = False
        elif not self._served(server, first):
            if self.state is not State.COOLDOWN:
                self._pause_after_failure(certain=self._dgram or server.clients is not None)
            return
        self._back_off.succeeded()
        if first is not None and self.servers and not self._full():
            self._linger(0.0)  # not from here: clients that come and servers that go would keep the loop from turning
        else:
            self._settle()

    def _is_acceptors(self) -> bool:
        """Whether the socket is open, and acceptors have it by now: the service has become one without wait."""
        return self.sock.fileno() >= 0 and not self.sock.getblocking()

    def _served(self, server: Server, first: Head) -> bool:
        """Whether a server that ended soon has taken anything of what it found in the queue, which is not empty now."""
        if self._dgram:
            return not first.same(server.sign)
        now = pending(self.sock) if server.clients is not None else None
        taken = not first.same(server.sign) if server.clients is None or now is None else not server.clients <= now
        self._suspect = not taken or server.clients is None
        return taken

    def _pause_after_failure(self, *, certain: bool) -> None:
        before = self._back_off.pause
        self._cool(self._back_off.failed() if certain else 0.1)
        if before < TOLD_FROM <= self._back_off.pause:
            self._warn(f"service {self.installed.planned.id}: its server ends again and again and leaves what waits; "
                       "it is started with growing pauses, mend the program")

    # ---- starting servers ----

    def _try(self, peer: Peer, *, vouched: bool) -> None:
        """Start a server for what is first in the queue, or do what the verdict says."""
        row = self.installed.row
        first = self._head()
        clients = pending(self.sock) if self._suspect else None
        if not self.servers:
            self.sock.setblocking(True)  # acceptors had it before, or the last server left it otherwise
        verdict, slot, pid = self._keeper.start(self.installed.program, self.sock.fileno(), *peer, vouched=vouched)
        if verdict == Verdict.ASK:
            self._asked = first
            self._go(State.ASKING)
            self._questions.ask(row, peer[0], lambda answer: self._answered(peer, answer))
        elif verdict == Verdict.RATE and self.installed.planned.service.over_rate.value == "wait":
            self._keeper.hold(row)
            self._cool(max(self._board.rate_wait(row), 0.001), self._rate_allows)
        elif verdict != Verdict.ADMIT:
            self._refuse(verdict, peer)
        elif slot < 0:
            self._cool(self._back_off.failed())
        else:
            self._started(pid, slot, first, clients)

    def _started(self, pid: int, slot: int, first: Head | None, clients: Clients | None) -> None:
        """A server runs. If what was first at the start before this one is first still, that one did not help."""
        if not self.servers or first is None or not first.same(self._sign):
            self._grace.succeeded()
        self._grace.failed()
        now = time.monotonic()
        if self._standing is None:
            self._standing = now
        self._sign = first
        self.servers[pid] = Server(now, first, clients)
        self._board.count_activation(0, self.installed.row)
        self._children.started(pid, slot, lambda: self._ended(pid))
        if self._full():
            self._go(State.FULL)
        else:
            self._linger(self._grace.pause / LOOKS)

    def _refuse(self, verdict: Verdict, peer: Peer) -> None:
        """Nobody is started for what is first in the queue: take it off, if it is nobody else's."""
        if self.servers:
            self._enough()
            self._grace.failed()
            self._linger(self._grace.pause / LOOKS)
        elif verdict == Verdict.INSTANCES and self.installed.planned.share > 1:
            self._cool(ELSEWHERE)
        else:
            self._settle()
            self._keeper.refuse(self.installed.program, verdict, *take_one(self.sock, peer))

    # ---- the queue ----

    def _prepare(self) -> None:
        """Where servers will share the queue, have the kernel keep the time of each datagram from now on: a first look
        does it. One that came before has none while servers read, and equal ones without a time count as the same."""
        if self.installed.planned.share > 1 and not self.servers:
            self._head()

    def _head(self) -> Head | None:
        return head(self.sock, shared=bool(self.servers))

    def _emptied(self) -> None:
        """The queue was empty: the servers are doing well, and nothing waits for the rate."""
        self._keeper.let_go(self.installed.row)
        self._enough()
        self._grace.succeeded()
        self._grace.failed()

    def _enough(self) -> None:
        """No further server is called for; a new pause begins with the next look."""
        self._called_for, self._standing = max(1, len(self.servers)), None
