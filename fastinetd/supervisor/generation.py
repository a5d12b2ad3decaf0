"""One Plan's lifetime: the role processes that serve it, and the channels between them.

Theory. A generation is forked whole, from the supervisor as it is then: acceptors, the relay if there are built-in
services, the doorman if a name decides anywhere, the monitor if metrics are wanted. One that is to take over from
another must come up whole, too. A role that dies is replaced by another with the same descriptors, so questions that
wait in a channel are not lost. A generation that is retired finishes what it has in hand; its doorman leaves after its
last acceptor.

Rules of this file: it owns the roles and the channels, and borrows listeners. What a role's end means for the Board is
the supervisor's to say (`ended`).
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fastinetd._accept import Acceptor
from fastinetd.core.board import Board
from fastinetd.core.program import Program
from fastinetd.doorman import doorman
from fastinetd.logs.daemon_log import Messages
from fastinetd.monitor import monitor
from fastinetd.monitor.metrics import ServiceInfo
from fastinetd.monitor.readiness import Unserved
from fastinetd.policy.access import AccessTable
from fastinetd.policy.limits import BackOff
from fastinetd.pools.pool import acceptors_of
from fastinetd.relay.relay import Relay
from fastinetd.supervisor.roles import Role, fork_role
from fastinetd.system.allowances import explained
from fastinetd.system.descriptors import lifted
from fastinetd.system.loop import Loop
from fastinetd.system.strangers import close_words, guard

LASTING = 5.0
"""Seconds after which a role's death is no longer taken for a failed start."""

LONGEST = 2.0
"""Seconds between two starts at most: without its roles a machine serves nobody."""

PATIENCE = 5.0
"""Seconds in which roles are ready, or never will be; it is milliseconds on a machine at rest. Meanwhile the supervisor
does nothing else, and a watchdog waits for it."""

LEAVING = 5.0
"""Seconds in which a role whose life line has ended leaves. One that somebody has stopped never would."""

LACKS = (OSError, MemoryError, LookupError)
"""What is raised where there is no descriptor, process, memory or section of the Board for a role."""

Main = Callable[[Board, int | None, int], Callable[[], None]]
"""Makes a role, given the Board, its section and its control pipe; returns what it does then."""


class Unready(Exception):
    """A role did not come up; says which one, and why."""


@dataclass(frozen=True)
class Duties:
    """What a generation serves."""

    acceptors: int
    programs: Sequence[tuple[int, Program]]  # listener, program: for the acceptors
    builtins: Sequence[tuple[int, Program]]  # for the relay
    tables: dict[int, AccessTable]  # rows whose clients' names decide
    asks_itself: bool  # the supervisor has such rows: wait services
    services: Sequence[ServiceInfo]
    unserved: Sequence[Unserved]
    library: int  # that holds programs; -1: no service needs it
    metrics: int | None  # the metrics listener
    reader: int  # the Board, open for reading only
    version: str


@dataclass
class Post:
    """A role's place in the generation, whoever holds it at present."""

    kind: str
    number: int
    main: Main
    keep: tuple[int, ...]
    counts: bool  # it has a section on the Board
    unprivileged: bool
    back_off: BackOff
    since: float = 0.0

    @property
    def title(self) -> str:
        return f"{self.kind} {self.number}" if self.number else self.kind


class Generation:
    """The running roles of one Plan."""

    def __init__(self, board: Board, loop: Loop, messages: Messages, duties: Duties,
                 ended: Callable[[Role, int], None]) -> None:
        """`ended(role, status)` is called when a role's process has ended and before it is replaced. Nothing is forked
        yet. Raises OSError."""
        self._board = board
        self._loop = loop
        self._messages = messages
        self._duties = duties
        self._ended = ended
        self._channels: list[socket.socket] = []
        self.questions: socket.socket | None = None  # the supervisor's own channel to the doorman
        self.roles: dict[int, tuple[Role, Post]] = {}
        self.retired = False
        self._posts = self._made_posts()

    def start(self) -> None:
        """Fork all roles; what cannot be forked, or does not come up, is tried again."""
        for post in self._posts:
            self._fill(post)

    def start_whole(self) -> None:
        """Fork all roles, and wait until those that accept clients are ready; the others may come later. Raises
        Unready."""
        for post in self._posts:
            if not post.counts:
                self._fill(post)
                continue
            try:
                self._fork(post)
            except LACKS as error:
                raise Unready(f"cannot start {post.title}: {_why(error)}") from None
        until = time.monotonic() + PATIENCE
        for role, post in [*self.roles.values()]:
            if post.counts:
                self._await(role, until - time.monotonic())
                if not role.ready:
                    why = "it is not ready in time" if role.word >= 0 else role.trouble or "it has ended"
                    raise Unready(f"cannot start {role.title}: {why}")

    def _await(self, role: Role, seconds: float) -> None:
        """Wait for a role's word, if it has not come yet."""
        if role.word < 0:
            return
        poll = select.poll()
        poll.register(role.word, select.POLLIN)
        if poll.poll(max(0.0, seconds) * 1000):
            self._hear(role)

    @property
    def accepts(self) -> bool:
        """Whether a process may still accept clients for programs."""
        return self._has("acceptor")

    @property
    def relays(self) -> bool:
        """Whether a process may still accept clients of built-in services, or wait for the doorman's word on one."""
        return self._has("relay")

    def _has(self, kind: str) -> bool:
        return any(role.kind == kind for role, _ in self.roles.values())

    @property
    def accepting(self) -> frozenset[int]:
        """The listeners that its acceptors have or had."""
        return frozenset(fd for fd, _ in self._duties.programs)

    def _made_posts(self) -> list[Post]:
        duties = self._duties
        wake = self._board.wake
        posts = []
        answering = []
        takers = [
            ("acceptor", number, programs_of(number, duties.acceptors, duties.programs))
            for number in range(1, duties.acceptors + 1)
        ]
        if duties.builtins:
            takers.append(("relay", 0, duties.builtins))
        for kind, number, programs in takers:
            question = -1
            if duties.tables:
                ends = _channel()
                self._channels += ends
                question = ends[0].fileno()
                answering.append(ends[1].fileno())
            others = (question, duties.library, *(program.errors for _, program in programs))
            keep = (*(fd for fd, _ in programs), wake, *(fd for fd in others if fd >= 0))
            main = _reception(kind, programs, question, duties.acceptors)
            posts.append(Post(kind, number, main, keep, True, kind == "relay", BackOff(ceiling=LONGEST)))
        if duties.asks_itself:
            ends = _channel()
            self._channels += ends
            self.questions = ends[0]
            answering.append(ends[1].fileno())
        if answering:
            main = _doorman(answering, duties.tables)
            posts.append(Post("doorman", 0, main, tuple(answering), False, True, BackOff(ceiling=LONGEST)))
        if duties.metrics is not None:
            keep = (duties.metrics, duties.reader)
            posts.append(Post("monitor", 0, _monitor(duties), keep, False, True, BackOff(ceiling=LONGEST)))
        return posts

    def _fill(self, post: Post) -> None:
        """Fork a process for a post, now or later."""
        try:
            self._fork(post)
        except LACKS as error:
            self._messages.error(f"cannot start {post.title}: {_why(error)}; it is tried again")
            self._loop.later(post.back_off.failed(0.0), lambda: None if self.retired else self._fill(post))

    def _fork(self, post: Post) -> None:
        """Fork a process for a post. Raises LACKS."""
        section = self._board.section_claim(0) if post.counts else None
        try:
            role = fork_role(
                post.kind, post.number, lambda control: post.main(self._board, section, control),
                keep=post.keep, section=section, unprivileged=post.unprivileged,
            )
        except OSError:
            if section is not None:
                self._board.section_release(section)
            raise
        if section is not None:
            self._board.section_own(section, role.pid)
        self._messages.debug(f"{role.title} runs as pid {role.pid}")
        post.since = time.monotonic()
        self.roles[role.pid] = (role, post)
        self._loop.watch(role.pidfd, lambda _: self._died(role, post))
        self._loop.watch(role.word, lambda _: self._hear(role))

    def _hear(self, role: Role) -> None:
        self._loop.unwatch(role.word)
        role.hear()

    def _died(self, role: Role, post: Post) -> None:
        try:
            pid, status = os.waitpid(role.pid, os.WNOHANG)
        except ChildProcessError:  # somebody reaped it in the name of a server: its slots are adopted all the same
            pid, status = role.pid, 1 << 8
        if pid == 0:
            return
        self._loop.unwatch(role.pidfd)
        self._hear(role)
        del self.roles[role.pid]
        try:
            self._ended(role, status)
        finally:
            role.forget()
        if self.retired:
            if all(kept.kind == "doorman" for kept, _ in self.roles.values()):
                self._let_doorman_go()
            return
        how = _how(status, role.trouble)
        self._messages.error(f"{role.title} (pid {role.pid}) ended {how}; another takes its place")
        if time.monotonic() - post.since > LASTING:
            post.back_off.succeeded()
            self._fill(post)
        else:
            pause = post.back_off.failed(0.0)
            self._loop.later(0.0 if pause <= 0.1 else pause, lambda: None if self.retired else self._fill(post))

    def renew_pools(self) -> None:
        """Replace the processes that wait for clients; whoever serves goes on."""
        for role, _ in self.roles.values():
            if role.kind == "acceptor":
                role.renew_pools()

    def retire(self) -> None:
        """Let every role finish what it has in hand and leave."""
        self.retired = True
        for role, _ in self.roles.values():
            if role.kind != "doorman":
                role.retire()
        if all(role.kind == "doorman" for role, _ in self.roles.values()):
            self._let_doorman_go()

    def abandon(self) -> None:
        """End every role at once, as if the supervisor had died; whoever cannot hear that is killed."""
        self.retired = True
        for role, _ in self.roles.values():
            role.abandon()
        self._let_doorman_go()
        self._loop.later(LEAVING, self._kill)

    def give_up(self) -> None:
        """It does not take over: whoever is ready may have clients by now, and finishes those; the others have none."""
        for role, post in self.roles.values():
            if post.counts:
                self._await(role, 0.0)
                if not role.ready:
                    role.abandon()
        self.retire()
        self._loop.later(LEAVING, self._kill)

    def _kill(self) -> None:
        for role in [role for role, _ in self.roles.values() if role.abandoned]:
            self._messages.error(f"{role.title} (pid {role.pid}) does not leave: it is stopped or hangs; it is killed")
            role.kill()

    def _let_doorman_go(self) -> None:
        """The doorman's last acceptor has left: its channels end, and so does it."""
        for end in self._channels:
            close_words(end)
        self._channels.clear()
        for role, _ in self.roles.values():
            if role.kind == "doorman" and not role.retired:
                role.abandon()


def _channel() -> list[socket.socket]:
    """A pair of sockets, the second one for the doorman; the caller's."""
    ends = [lifted(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
    for end in ends:
        guard(end)
    return ends


def programs_of(number: int, count: int, programs: Sequence[tuple[int, Program]]) -> Sequence[tuple[int, Program]]:
    """What one of `count` acceptors serves; where not all serve a service, which of them do goes by its row."""
    return [
        (listener, program)
        for listener, program in programs
        if (number + program.row) % count < acceptors_of(program.kind, count)
    ]


def _reception(kind: str, programs: Sequence[tuple[int, Program]], question: int, acceptors: int) -> Main:
    def main(board: Board, section: int | None, control: int) -> Callable[[], None]:
        assert section is not None
        if kind == "relay":
            return Relay(board, section, list(programs), control, question).run
        return Acceptor(board, section, list(programs), control, question, acceptors).run

    return main


def _doorman(channels: list[int], tables: dict[int, AccessTable]) -> Main:
    def main(board: Board, section: int | None, control: int) -> Callable[[], None]:
        board.unmap()
        return lambda: doorman.run(channels, tables, control=control)

    return main


def _monitor(duties: Duties) -> Main:
    def main(board: Board, section: int | None, control: int) -> Callable[[], None]:
        assert duties.metrics is not None
        board.unmap()
        view = Board.open(duties.reader, False)
        return partial(monitor.run, duties.metrics, control, view, duties.services,
                       version=duties.version, unserved=duties.unserved)

    return main


def _why(error: Exception) -> str:
    return explained(error) if isinstance(error, OSError | MemoryError) else str(error)


def _how(status: int, trouble: str) -> str:
    code = os.waitstatus_to_exitcode(status)
    said = f" ({trouble})" if trouble else ""
    return f"by signal {-code}" if code < 0 else f"with status {code}{said}"
