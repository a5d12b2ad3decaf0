"""One Plan's lifetime: the role processes that serve it, and the channels between them.

Theory. A generation is forked whole, from the supervisor as it is then: acceptors, the relay if there are built-in
services, the doorman if a name decides anywhere, the monitor if metrics are wanted. One that is to take over from
another must come up whole, too. A role that dies is replaced by another with the same descriptors, so questions that
wait in a channel are not lost. A generation that is retired finishes what it has in hand; its doorman leaves after its
last acceptor.

Rules of this file: it owns the roles and the channels, and borrows listeners. It knows no kind of role by name: how
they differ is in the table (role_specs). What a role's end means for the Board is the supervisor's to say (`ended`).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.plan.model import Mode
from fastinetd.policy.back_off import BackOff
from fastinetd.supervisor.channels import Channels
from fastinetd.supervisor.duties import Duties
from fastinetd.supervisor.role_specs import ROLES, RoleMain, RoleSpec
from fastinetd.supervisor.roles import Role, fork_role
from fastinetd.system.allowances import explained
from fastinetd.system.loop import Loop

STARTED_AFTER = 5.0
"""Seconds after which a role's death is no longer taken for a failed start."""

RESTART_LONGEST = 2.0
"""Seconds between two starts at most: without its roles a machine serves nobody."""

READY_WITHIN = 5.0
"""Seconds in which roles are ready, or never will be; it is milliseconds on a machine at rest. Meanwhile the supervisor
does nothing else, and a watchdog waits for it."""

LEAVE_WITHIN = 5.0
"""Seconds in which a role whose life line has ended leaves. One that somebody has stopped never would."""

LACKS = (OSError, MemoryError, LookupError)
"""What is raised where there is no descriptor, process, memory or section of the Board for a role."""


class Unready(Exception):
    """A role did not come up; says which one, and why."""


@dataclass
class RolePlace:
    """A role's place in the generation, whichever process holds it at present."""

    spec: RoleSpec
    number: int
    main: RoleMain
    keep: tuple[int, ...]
    back_off: BackOff
    since: float = 0.0

    @property
    def title(self) -> str:
        return self.spec.title(self.number)


class Generation:
    """The running roles of one Plan."""

    def __init__(self, board: Board, loop: Loop, messages: DaemonLog, duties: Duties, role_pids: set[int],
                 ended: Callable[[Role, int], None]) -> None:
        """Nothing is forked yet. `role_pids` is kept up to date with this generation's processes. `ended(role, status)`
        is called when a role's process has ended and before it is replaced, for whoever makes generations and keeps
        them (succession.py). Raises OSError."""
        self._board = board
        self._loop = loop
        self._messages = messages
        self._duties = duties
        self._role_pids = role_pids
        self._ended = ended
        self._channels = Channels()
        self.questions = self._channels.open() if duties.asks_itself else None  # the supervisor's own to the doorman
        self.roles: dict[int, tuple[Role, RolePlace]] = {}
        self.retired = False
        self._places = [place for spec in ROLES for place in self._places_for(spec)]

    def start(self) -> None:
        """Fork all roles; what cannot be forked, or does not come up, is tried again."""
        for place in self._places:
            self._fill(place)

    def start_whole(self) -> None:
        """Fork all roles, and wait until those that accept clients are ready; the others may come later. Raises
        Unready."""
        for place in self._places:
            if not place.spec.must_be_ready:
                self._fill(place)
                continue
            try:
                self._fork(place)
            except LACKS as error:
                raise Unready(f"cannot start {place.title}: {_why(error)}") from None
        until = time.monotonic() + READY_WITHIN
        for role, place in [*self.roles.values()]:
            if place.spec.must_be_ready:
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
        return self._accepts(Mode.NOWAIT)

    @property
    def relays(self) -> bool:
        """Whether a process may still accept clients of built-in services, or wait for the doorman's word on one."""
        return self._accepts(Mode.BUILTIN)

    def _accepts(self, mode: Mode) -> bool:
        return any(role.spec.accepts is mode for role, _ in self.roles.values())

    @property
    def accepting(self) -> frozenset[int]:
        """The listeners that its acceptors have or had."""
        return frozenset(fd for fd, _ in self._duties.programs)

    def _places_for(self, spec: RoleSpec) -> Iterator[RolePlace]:
        """The places of a kind of role, as far as there is work for it. Raises OSError."""
        for number in spec.numbers(self._duties.acceptors):
            work = spec.work(self._duties, number, self._channels)
            if work is not None:
                keep = (*work.keep, self._board.wake) if spec.has_section else work.keep
                yield RolePlace(spec, number, work.main, keep, BackOff(ceiling=RESTART_LONGEST))

    def _fill(self, place: RolePlace) -> None:
        """Fork a process for a place, now or later."""
        try:
            self._fork(place)
        except LACKS as error:
            self._messages.error(f"cannot start {place.title}: {_why(error)}; it is tried again")
            self._loop.later(place.back_off.failed(), lambda: None if self.retired else self._fill(place))

    def _fork(self, place: RolePlace) -> None:
        """Fork a process for a place. Raises LACKS."""
        section = self._board.section_claim(0) if place.spec.has_section else None
        try:
            role = fork_role(
                place.spec, place.number, lambda control: place.main(self._board, section, control),
                keep=place.keep, section=section,
            )
        except OSError:
            if section is not None:
                self._board.section_release(section)
            raise
        if section is not None:
            self._board.section_own(section, role.pid)
        self._messages.debug(f"{role.title} runs as pid {role.pid}")
        place.since = time.monotonic()
        self.roles[role.pid] = (role, place)
        self._role_pids.add(role.pid)
        self._loop.watch(role.pidfd, lambda _: self._died(role, place))
        self._loop.watch(role.word, lambda _: self._hear(role))

    def _hear(self, role: Role) -> None:
        self._loop.unwatch(role.word)
        role.hear()

    def _died(self, role: Role, place: RolePlace) -> None:
        try:
            pid, status = os.waitpid(role.pid, os.WNOHANG)
        except ChildProcessError:  # somebody reaped it in the name of a server: its slots are adopted all the same
            pid, status = role.pid, 1 << 8
        if pid == 0:
            return
        self._loop.unwatch(role.pidfd)
        self._hear(role)
        del self.roles[role.pid]
        self._role_pids.discard(role.pid)
        try:
            self._ended(role, status)
        finally:
            role.forget()
        if self.retired:
            self._retire_last()
            return
        how = _how(status, role.trouble)
        self._messages.error(f"{role.title} (pid {role.pid}) ended {how}; another takes its place")
        if time.monotonic() - place.since > STARTED_AFTER:
            place.back_off.succeeded()
            self._fill(place)
        else:
            pause = place.back_off.failed()
            self._loop.later(0.0 if pause <= 0.1 else pause, lambda: None if self.retired else self._fill(place))

    def renew_pools(self) -> None:
        """Replace the processes that wait for clients; whoever serves goes on."""
        for role, _ in self.roles.values():
            if role.spec.has_pools:
                role.renew_pools()

    def retire(self) -> None:
        """Let every role finish what it has in hand and leave."""
        self.retired = True
        for role, _ in self.roles.values():
            if not role.spec.leaves_last:
                role.retire()
        self._retire_last()

    def _retire_last(self) -> None:
        """Once all others have left, let those leave that they asked."""
        if all(role.spec.leaves_last for role, _ in self.roles.values()):
            self._end_questions()

    def abandon(self) -> None:
        """End every role at once, as if the supervisor had died; whoever cannot hear that is killed."""
        self.retired = True
        for role, _ in self.roles.values():
            role.abandon()
        self._end_questions()
        self._loop.later(LEAVE_WITHIN, self._kill)

    def give_up(self) -> None:
        """It does not take over: whoever is ready may have clients by now, and finishes those; the others have none."""
        for role, place in self.roles.values():
            if place.spec.must_be_ready:
                self._await(role, 0.0)
                if not role.ready:
                    role.abandon()
        self.retire()
        self._loop.later(LEAVE_WITHIN, self._kill)

    def _kill(self) -> None:
        for role in [role for role, _ in self.roles.values() if role.abandoned]:
            self._messages.error(f"{role.title} (pid {role.pid}) does not leave: it is stopped or hangs; it is killed")
            role.kill()

    def _end_questions(self) -> None:
        """Nobody asks any more: the channels end, and so do the roles that answer."""
        self._channels.close()
        for role, _ in self.roles.values():
            if role.spec.leaves_last and not role.retired:
                role.abandon()


def _why(error: Exception) -> str:
    return explained(error) if isinstance(error, OSError | MemoryError) else str(error)


def _how(status: int, trouble: str) -> str:
    code = os.waitstatus_to_exitcode(status)
    said = f" ({trouble})" if trouble else ""
    return f"by signal {-code}" if code < 0 else f"with status {code}{said}"
