"""Wait services: the server is given the listening or datagram socket itself and keeps it until it exits.

Theory. One machine per socket. IDLE: the socket is watched. Readable: a server is started, and the socket left alone
(RUNNING) until it exits. Was what woke it still there when it exited soon after its start, the server did not read:
the next start waits a growing pause (COOLDOWN). A start that failed, or a limit that time will lift, pauses too.
Nothing in the queue is thrown away, but what a limit or an address rule refuses: that one datagram or client.

    state      event        next       action
    IDLE       readable     RUNNING    start a server
    IDLE       readable     IDLE       refuse one datagram or client
    IDLE       readable     COOLDOWN   the rate is used up, or the start failed
    IDLE       readable     ASKING     the sender's name decides: ask the doorman
    ASKING     answer       as IDLE with readable, or refused
    RUNNING    server ends  IDLE       watch the socket again
    RUNNING    server ends  COOLDOWN   it did not read
    RUNNING    server ends  GONE       it has spoilt the socket: another is opened (so in IDLE, when that is seen later)
    COOLDOWN   pause over   IDLE       watch the socket again
    any        withdraw     GONE       leave the socket alone for good

Rules of this file: the sockets are borrowed and blocking (their mode is shared with the servers), so every call here
says MSG_DONTWAIT or follows a readiness. A running server outlives a reload; its machine goes on with the new Program.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from ipaddress import IPv6Address, ip_address

from fastinetd._accept import Keeper
from fastinetd._board import Board, Verdict
from fastinetd.children import Children
from fastinetd.loop import Loop, Timer
from fastinetd.policy.limits import BackOff
from fastinetd.questions import Questions
from fastinetd.rows import Installed

SOON = 1.0
"""Seconds within which an exit without having read counts against the server."""

IN_VAIN = 8
"""Wake-ups without a datagram after which the socket is left alone for a moment."""

ACCEPT_WITHIN = 0.1
"""Seconds after which an accept that should not block is given up."""

PEEK = 2048  # bytes of a datagram that tell it from the next
SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it
TIMESPEC = 16  # bytes


class State(Enum):
    IDLE = "idle"
    ASKING = "asking"
    RUNNING = "running"
    COOLDOWN = "cooldown"
    GONE = "gone"


TRANSITIONS = frozenset({
    (State.IDLE, State.RUNNING), (State.IDLE, State.COOLDOWN), (State.IDLE, State.ASKING),
    (State.ASKING, State.RUNNING), (State.ASKING, State.COOLDOWN), (State.ASKING, State.IDLE),
    (State.RUNNING, State.IDLE), (State.RUNNING, State.COOLDOWN), (State.COOLDOWN, State.IDLE),
    *((state, State.GONE) for state in State),
})  # fmt: skip

Peer = tuple[bytes, int]
"""Address of 4 or 16 bytes (b"" when unknown) and port."""


class WaitSocket:
    """The machine of one socket."""

    def __init__(self, installed: Installed, sock: socket.socket, board: Board, loop: Loop, keeper: Keeper,
                 children: Children, questions: Questions, renew: Callable[[socket.socket], None]) -> None:
        self.installed = installed
        self.sock = sock
        self.state = State.IDLE
        self.pid = 0
        self._board = board
        self._loop = loop
        self._keeper = keeper
        self._children = children
        self._questions = questions
        # A stream's queue may be as long as before although its server took clients, so it is not held up for long.
        self._back_off = BackOff() if sock.type == socket.SOCK_DGRAM else BackOff(ceiling=0.2)
        self._renew = renew
        self._in_vain = 0  # wake-ups in a row without a datagram
        self._timer: Timer | None = None
        self._started = 0.0
        self._sign: object = None  # what was first in the queue when the server was started
        loop.watch(sock.fileno(), self._readable)

    def withdraw(self) -> None:
        """The service is gone: leave the socket alone. A running server keeps its own descriptor of it."""
        if self.state is State.IDLE:
            self._loop.unwatch(self.sock.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._go(State.GONE)

    def _go(self, state: State) -> None:
        if (self.state, state) not in TRANSITIONS:
            raise AssertionError(f"wait socket: {self.state.value} -> {state.value}")
        self.state = state

    def _readable(self, events: int) -> None:
        dgram = self.sock.type == socket.SOCK_DGRAM
        peer = self._first_sender() if dgram else (b"", 0)
        if peer is None or (not dgram and events & select.EPOLLHUP):
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
            with suppress(OSError):
                while True:
                    self.sock.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._in_vain += 1
        if self._in_vain > IN_VAIN:
            self._cool(0.1)

    def _try(self, peer: Peer, *, vouched: bool) -> None:
        """Start a server for what is first in the queue, or do what the verdict says."""
        row = self.installed.row
        self._sign = self._head()
        self.sock.setblocking(True)  # acceptors had it before, or the last server left it otherwise
        verdict, slot, pid = self._keeper.start(self.installed.program, self.sock.fileno(), *peer, vouched=vouched)
        if verdict == Verdict.ASK:
            self._loop.unwatch(self.sock.fileno())
            self._go(State.ASKING)
            self._questions.ask(row, peer[0], lambda answer: self._answered(peer, answer))
        elif verdict == Verdict.RATE and self.installed.planned.service.over_rate.value == "wait":
            self._cool(max(self._board.rate_wait(row), 0.001))
        elif verdict != Verdict.ADMIT:
            self._refuse(verdict, peer)
        elif slot < 0:
            self._cool(self._back_off.failed(0.0))
        else:
            self.pid = pid
            self._started = time.monotonic()
            self._board.count_activation(0, row)
            self._loop.unwatch(self.sock.fileno())
            self._go(State.RUNNING)
            self._children.started(pid, slot, self._ended)

    def _answered(self, peer: Peer, answer: bool | None) -> None:
        """The doorman's answer about the sender of the first datagram; None: there was none."""
        if self.state is not State.ASKING:
            return
        if answer:
            self._try(peer, vouched=True)
        else:
            self._refuse(Verdict.DOORMAN if answer is None else Verdict.NAME, peer)

    def _ended(self) -> None:
        self.pid = 0
        if self.state is State.GONE:
            return
        if _spoilt(self.sock):
            self._renew(self.sock)
            return
        if time.monotonic() - self._started < SOON and self._sign is not None and self._head() == self._sign:
            self._cool(self._back_off.failed(0.0))
            return
        self._back_off.succeeded()
        self._watch_again()

    def _cool(self, seconds: float) -> None:
        if self.state is State.IDLE:
            self._loop.unwatch(self.sock.fileno())
        self._go(State.COOLDOWN)
        self._timer = self._loop.later(seconds, self._watch_again)

    def _watch_again(self) -> None:
        self._timer = None
        self._go(State.IDLE)
        self._loop.watch(self.sock.fileno(), self._readable)

    def _refuse(self, verdict: Verdict, peer: Peer) -> None:
        """Take one datagram or client off the queue; nobody is started for it."""
        if self.state is State.ASKING:
            self._watch_again()
        if self.sock.type == socket.SOCK_DGRAM:
            with suppress(OSError):
                self.sock.recv(1, socket.MSG_DONTWAIT)
        else:
            with suppress(OSError):
                accepted, address = _accept_now(self.sock)
                peer = _packed(address)
                accepted.close()
        self._keeper.refuse(self.installed.program, verdict, *peer)

    def _first_sender(self) -> Peer | None:
        """The sender of the first datagram, or None when there is none after all (a bad checksum)."""
        try:
            _, address = self.sock.recvfrom(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        return _packed(address)

    def _first_datagram(self) -> object:
        """The datagram that is first, with the time the kernel gives it when it is first looked at.

        A client may send the same again and again, so contents alone do not tell one from the next. The time is asked
        for only here: servers shall not find it among what recvmsg(2) gives them.
        """
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, True)
        try:
            space = socket.CMSG_SPACE(TIMESPEC)
            return self.sock.recvmsg(PEEK, space, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        finally:
            self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, False)

    def _head(self) -> object:
        """Something that stays the same while what is first in the queue stays there; None for an empty queue."""
        try:
            if self.sock.type == socket.SOCK_DGRAM:
                return self._first_datagram()
            if not select.select([self.sock], [], [], 0)[0]:
                return None
            if self.sock.family == socket.AF_UNIX:
                return True
            return struct.unpack_from("=I", self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)
        except OSError:
            return None


def _accept_now(sock: socket.socket) -> tuple[socket.socket, object]:
    """accept() that does not block, whoever else accepts from the socket. Raises OSError.

    What a server left behind has the socket too, may take the client first, and may change the shared O_NONBLOCK back
    in between: a timer ends what that would make endless.
    """
    sock.setblocking(False)
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, ACCEPT_WITHIN, ACCEPT_WITHIN)
    try:
        return sock.accept()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def _spoilt(sock: socket.socket) -> bool:
    """Whether a server has made its socket useless for the next one: shut it down, or connected it to one client."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    if any(events & (select.POLLHUP | select.POLLRDHUP) for _, events in poll.poll(0)):
        return True
    try:
        sock.getpeername()
    except OSError:  # not connected, as it should be
        return False
    return True


def _packed(address: object) -> Peer:
    """A socket address as the Board keeps it: IPv4 inside IPv6 as IPv4; b"" for anything but an Internet address."""
    if not isinstance(address, tuple):
        return b"", 0
    found = ip_address(str(address[0]).partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.packed, int(address[1])


class WaitServices:
    """The machines of all wait services, kept across reloads by their socket."""

    def __init__(self, board: Board, loop: Loop, keeper: Keeper, children: Children, questions: Questions,
                 renew: Callable[[socket.socket], None]) -> None:
        """`renew(socket)`: its server has spoilt it, so another is needed."""
        self._make: Callable[[Installed, socket.socket], WaitSocket] = lambda installed, sock: WaitSocket(
            installed, sock, board, loop, keeper, children, questions, renew
        )
        self._machines: dict[socket.socket, WaitSocket] = {}

    def __iter__(self) -> Iterator[WaitSocket]:
        return iter(self._machines.values())

    def install(self, wanted: list[tuple[Installed, socket.socket]]) -> None:
        """Serve these sockets, and no others."""
        names = {sock: installed for installed, sock in wanted}
        self.withdraw([sock for sock in self._machines if sock not in names])
        for sock, installed in names.items():
            machine = self._machines.get(sock)
            if machine is None:
                self._machines[sock] = self._make(installed, sock)
            else:
                machine.installed = installed

    def withdraw(self, sockets: Iterable[socket.socket]) -> None:
        """Leave these sockets alone. Before they are closed: what a server kept of them would go on waking the loop."""
        for machine in [self._machines.pop(sock) for sock in sockets if sock in self._machines]:
            machine.withdraw()

    def pids(self) -> dict[int, int]:
        """Row -> pid of the running servers."""
        return {machine.installed.row: machine.pid for machine in self._machines.values() if machine.pid}
