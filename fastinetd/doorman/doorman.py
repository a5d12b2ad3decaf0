"""The doorman: a process without privileges that looks up clients' names and decides by them.

Theory. An acceptor that cannot decide by the client's address sends a question over its own SOCK_SEQPACKET pair and
goes on; the answer comes back with the question's cookie (protocol.py). Three parts, of which none knows the ones
after it:

  * The `Desk` (desk.py) turns questions into answers: tables, cache, deadlines.
  * Threads run `confirmed_names`, which blocks in the system's resolver. A thread's only effects are
    an entry in a deque and a byte in a pipe.
  * `Doorman` is the loop: channels, the control descriptor, the pipe.

A name counts only when it leads back to the client's address: the owner of an address may write any name into its
reverse zone, and only the owner of the name can confirm it.

Rules of this file:
  * Only the loop's thread touches the Desk and the channels.
  * Nothing grows without bound: a channel with MOST_WAITING unanswered questions, or with an answer that its
    acceptor does not receive, is not read until that changes; so no answer is ever dropped.
  * A lookup for which no question waits any more is cancelled if it has not begun. One that hangs costs a thread
    until the resolver gives up, and nothing else.
  * Names from the network and datagrams from acceptors are checked before use.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - the resolver needs it, and a role without privileges may not read it later
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from select import POLLHUP, POLLRDHUP, poll
from threading import Lock

from fastinetd.config.addresses import plausible_name
from fastinetd.doorman.desk import Answer, Desk, Names, Question
from fastinetd.doorman.protocol import ANSWER, QUESTION, Family, Reply
from fastinetd.policy.access import AccessTable, Address

THREADS = 16  # lookups at a time
MOST_WAITING = 4096  # questions of one channel
MOST_NAMES = 8  # names of one address that are tried
QUESTIONS_IN_A_ROW = 64  # datagrams read from one channel before the others have their turn

Resolver = Callable[[Address], Names]
"""Returns the confirmed names of an address. May block; an exception means that there are none."""


# Names


def reverse_names(address: Address) -> Iterable[str]:
    """Names that the resolver has for an address, unconfirmed. Raises OSError when there are none."""
    name, aliases, _ = socket.gethostbyaddr(str(address))
    return [name, *aliases]


def forward_addresses(name: str, family: int) -> Iterable[str]:
    """Addresses that the resolver has for a name in AF_INET or AF_INET6. Raises OSError or UnicodeError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)]


def confirmed_names(
    address: Address,
    reverse: Callable[[Address], Iterable[str]] = reverse_names,
    forward: Callable[[str, int], Iterable[str]] = forward_addresses,
) -> Names:
    """Names of an address, of the first MOST_NAMES, that lead back to it. Raises OSError when it has none."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    claimed = dict.fromkeys(name.lower().removesuffix(".") for name in reverse(address))
    confirmed = set()
    for name in list(claimed)[:MOST_NAMES]:
        if not plausible_name(name):
            continue
        try:
            found = {ip_address(text.partition("%")[0]) for text in forward(name, family)}
        except (OSError, ValueError):  # UnicodeError, of a name that cannot be sent, is a ValueError
            continue
        if address in found:
            confirmed.add(name)
    return frozenset(confirmed)


# The process


def parse_question(channel: int, datagram: bytes) -> Question | None:
    """The question in a datagram of a channel; None when its size is not that of a question."""
    if len(datagram) != QUESTION.size:
        return None
    cookie, row, family, _, raw = QUESTION.unpack(datagram)
    address: Address | None = None
    if family == Family.IPV4:
        address = IPv4Address(raw[:4])
    elif family == Family.IPV6:
        six = IPv6Address(raw)
        address = six.ipv4_mapped or six
    return Question(channel, cookie, row, address)


@dataclass(slots=True)
class Channel:
    """The doorman's end of an acceptor's channel; owns its socket."""

    socket: socket.socket
    waiting: int = 0  # questions read and not answered, unsent answers included
    unsent: deque[bytes] = field(default_factory=deque)
    events: int = 0  # what the selector watches; 0: not registered


class Doorman:
    """The loop. Takes `channels` (descriptors of sockets) and `control`: all are closed when `run` returns."""

    def __init__(
        self,
        channels: list[int],
        tables: Mapping[int, AccessTable],
        control: int,
        resolver: Resolver,
        clock: Callable[[], float],
    ) -> None:
        self._desk = Desk(tables)
        self._resolver = resolver
        self._clock = clock
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._channels = {fd: Channel(socket.socket(fileno=fd)) for fd in channels}
        for fd, channel in self._channels.items():
            channel.socket.setblocking(False)
            self._watch_channel(fd, channel)
        self._threads = ThreadPoolExecutor(THREADS, "lookup")
        self._has_thread = False  # at least one could be started
        self._futures: dict[Address, Future[None]] = {}
        self._found: deque[tuple[Address, Names]] = deque()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake_lock = Lock()  # a thread that outlives the loop must not write to a closed descriptor
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._selector.register(control, selectors.EVENT_READ)

    def run(self) -> None:
        """Answer questions until `control` or all channels have ended."""
        try:
            while self._channels and self._run_turn():
                pass
        finally:
            self._close_all()

    def _run_turn(self) -> bool:
        """Wait for events and deadlines, and handle them; False when the control descriptor has ended."""
        deadline = self._desk.deadline
        timeout = None if deadline is None else max(0.0, deadline - self._clock())
        for key, events in self._selector.select(timeout):
            if key.fd == self._control:
                if _has_ended(self._control):
                    return False
            elif key.fd == self._wake_reader:
                os.read(self._wake_reader, 4096)
            else:
                self._serve_channel(key.fd, events)
        while self._found:
            address, names = self._found.popleft()
            if self._futures.pop(address, None) is not None:  # else it was cancelled, and began later
                self._send_answers(self._desk.learn_names(address, names, self._clock()))
        answers, idle = self._desk.expire_questions(self._clock())
        for address in idle:
            if self._futures[address].cancel():
                del self._futures[address]
                self._desk.forget_lookup(address)
        self._send_answers(answers)
        return True

    def _serve_channel(self, fd: int, events: int) -> None:
        """Send to and read from a channel that is ready, and drop it when its acceptor is gone."""
        channel = self._channels[fd]
        alive = self._flush_answers(channel) if events & selectors.EVENT_WRITE else True
        if alive and events & selectors.EVENT_READ:
            alive = self._read_questions(fd, channel)
        if alive:
            self._watch_channel(fd, channel)
        else:
            self._drop_channel(fd)

    def _read_questions(self, fd: int, channel: Channel) -> bool:
        """Read up to QUESTIONS_IN_A_ROW questions of a channel; False when its acceptor is gone."""
        for _ in range(QUESTIONS_IN_A_ROW):
            if channel.unsent or channel.waiting >= MOST_WAITING:
                break
            try:
                datagram = channel.socket.recv(QUESTION.size + 1)
            except BlockingIOError:
                break
            except OSError:
                return False
            if not datagram and _is_hung_up(fd):
                return False
            question = parse_question(fd, datagram)
            if question is None or self._desk.is_waiting(question):
                continue
            channel.waiting += 1
            verdict, address = self._desk.ask(question, self._clock())
            if verdict is not None:
                channel.unsent.append(ANSWER.pack(question.cookie, Reply(verdict)))
                if not self._flush_answers(channel):
                    return False
            elif address is not None:
                self._begin_lookup(address)
        return True

    def _begin_lookup(self, address: Address) -> None:
        """Have a thread look up the names of an address; the deadline decides if no thread can be started."""
        try:
            self._futures[address] = self._threads.submit(self._look_up_names, address)
            self._has_thread = True
        except RuntimeError:  # no thread could be started; the lookup is in their queue all the same
            self._futures[address] = Future()
            if not self._has_thread:
                self._threads.shutdown(wait=False, cancel_futures=True)
                self._threads = ThreadPoolExecutor(THREADS, "lookup")

    def _look_up_names(self, address: Address) -> None:
        """Look up the names of an address and wake the loop. Runs in a thread of `_threads`."""
        try:
            names = self._resolver(address)
        except Exception:  # whatever the resolver raises, the client has no name then
            names = frozenset()
        self._found.append((address, names))
        with self._wake_lock:
            if self._wake_writer >= 0:
                with suppress(BlockingIOError):  # a full pipe wakes the loop as well
                    os.write(self._wake_writer, b"!")

    def _send_answers(self, answers: Iterable[Answer]) -> None:
        """Send answers, or keep them until their acceptor receives them; those of a closed channel are dropped."""
        for fd, cookie, allowed in answers:
            channel = self._channels.get(fd)
            if channel is None:
                continue
            channel.unsent.append(ANSWER.pack(cookie, Reply(allowed)))
            if self._flush_answers(channel):
                self._watch_channel(fd, channel)
            else:
                self._drop_channel(fd)

    def _flush_answers(self, channel: Channel) -> bool:
        """Send unsent answers until the channel is full; False when its acceptor is gone."""
        while channel.unsent:
            try:
                channel.socket.send(channel.unsent[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:
                return False
            channel.unsent.popleft()
            channel.waiting -= 1
        return True

    def _watch_channel(self, fd: int, channel: Channel) -> None:
        """Have the selector watch a channel for room if answers are unsent, else for questions if more may wait."""
        events = 0
        if channel.unsent:
            events = selectors.EVENT_WRITE
        elif channel.waiting < MOST_WAITING:
            events = selectors.EVENT_READ
        if events == channel.events:
            return
        if not channel.events:
            self._selector.register(fd, events)
        elif events:
            self._selector.modify(fd, events)
        else:
            self._selector.unregister(fd)
        channel.events = events

    def _drop_channel(self, fd: int) -> None:
        """Close a channel and forget it."""
        channel = self._channels.pop(fd)
        if channel.events:
            self._selector.unregister(fd)
        channel.socket.close()

    def _close_all(self) -> None:
        """Close all descriptors; threads that hang in the resolver are left alone."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for fd in list(self._channels):
            self._drop_channel(fd)
        self._selector.close()
        with self._wake_lock:
            writer, self._wake_writer = self._wake_writer, -1
        for fd in (writer, self._wake_reader, self._control):
            os.close(fd)


def _has_ended(control: int) -> bool:
    """Whether a readable control descriptor is at its end; bytes in it are read and ignored."""
    try:
        return not os.read(control, 4096)
    except OSError:
        return True


def _is_hung_up(fd: int) -> bool:
    """Whether a channel has ended, so that an empty read was no empty datagram."""
    poller = poll()
    poller.register(fd, POLLRDHUP)
    return any(events & (POLLHUP | POLLRDHUP) for _, events in poller.poll(0))


def run(
    channels: list[int],
    tables: Mapping[int, AccessTable],
    *,
    control: int,
    resolver: Resolver = confirmed_names,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run the doorman until `control` reports end of file or no channel is left.

    Takes `channels` (SOCK_SEQPACKET, one per acceptor) and `control` (a pipe or socket; bytes written there are
    ignored). `tables`: row -> access table. A thread may still hang in the resolver on return, and an orderly exit
    would wait for it: the process should end with os._exit.
    """
    Doorman(channels, tables, control, resolver, clock).run()
