"""A generation: the role processes that serve one Plan, and the channels between them.

Theory. A generation is forked whole, from the supervisor as it is then: acceptors, the relay if there are built-in
services, the doorman if a name decides anywhere, the monitor if metrics are wanted. One that is to take over from
another must come up whole, too. A role that dies is replaced by another with the same descriptors, so questions that
wait in a channel are not lost. A generation that is retired finishes what it has in hand; its doorman leaves after its
last acceptor.

Rules of this file: it owns the roles and the channels, and borrows listeners. It knows no kind of role by name: how
they differ is in the table (role_specs). What becomes of an ended role's servers is for others (`ended`).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.plan.model import PlannedService
from fastinetd.policy.back_off import BackOff
from fastinetd.services.children import Children
from fastinetd.supervisor.channels import Channels
from fastinetd.supervisor.duties import Duties
from fastinetd.supervisor.role_specs import ROLES, RoleMain, RoleSpec
from fastinetd.supervisor.roles import Role, fork_role
from fastinetd.system.allowances import explain_error
from fastinetd.system.loop import Loop

STARTED_AFTER = 5.0
"""Seconds after its start from which on a role's death is not taken for a failed start."""

RESTART_LONGEST = 2.0
"""Seconds between two starts of a role at most: without its roles a machine serves no client."""

READY_WITHIN = 5.0
"""Seconds in which roles report that they are ready, or never will; on a machine at rest it takes milliseconds. The
supervisor does nothing else meanwhile, and a watchdog waits for it."""

LEAVE_WITHIN = 5.0
"""Seconds in which a role whose life line has ended leaves, or is killed: one that is stopped would never leave."""

LACKS = (OSError, MemoryError, LookupError)
"""What is raised where there is no descriptor, process, memory or section of the Board for a role."""


class Unready(Exception):
    """Raised for a role that has not come up; the text names it and has the reason."""


@dataclass
class RolePlace:
    """A role's place in the generation, whichever process holds it at present."""

    spec: RoleSpec
    number: int
    main: RoleMain
    keep: tuple[int, ...]
    back_off: BackOff
    since: float = 0.0  # when its present process was forked
    stopped: bool = False  # one of its processes has been stopped, and that was logged

    @property
    def title(self) -> str:
        """The title of the role's process."""
        return self.spec.title(self.number)


class Generation:
    """The running roles of one Plan."""

    def __init__(self, board: Board, loop: Loop, messages: DaemonLog, duties: Duties, children: Children,
                 ended: Callable[[Role, int], None]) -> None:
        """Nothing is forked yet. `ended(role, status)` is called when a role's process has ended and before it is
        replaced, for whoever makes generations and keeps them (succession.py). Raises OSError."""
        self._board = board
        self._loop = loop
        self._messages = messages
        self._duties = duties
        self._children = children
        self._ended = ended
        self._channels = Channels()
        self.doorman_channel = self._channels.open() if duties.asks_itself else None  # the supervisor's own
        self.roles: dict[int, tuple[Role, RolePlace]] = {}
        self.retired = False
        self._places = [place for spec in ROLES for place in self._places_for(spec)]

    def start(self) -> None:
        """Fork all roles; a role that cannot be forked, or does not come up, is tried again."""
        for place in self._places:
            self._fill_place(place)

    def start_whole(self) -> None:
        """Fork all roles, and wait until those that accept clients are ready; the others may be ready later. Raises
        Unready."""
        for place in self._places:
            if not place.spec.must_be_ready:
                self._fill_place(place)
                continue
            try:
                self._fork_for(place)
            except LACKS as error:
                raise Unready(f"cannot start {place.title}: {_error_text(error)}") from None
        until = time.monotonic() + READY_WITHIN
        for role, place in [*self.roles.values()]:
            if place.spec.must_be_ready:
                self._await_report(role, until - time.monotonic())
                if not role.ready:
                    why = "it is not ready in time" if role.report >= 0 else role.trouble or "it has ended"
                    raise Unready(f"cannot start {role.title}: {why}")

    def _await_report(self, role: Role, seconds: float) -> None:
        """Wait so long for a role's report, if it has not come yet."""
        if role.report < 0:
            return
        poll = select.poll()
        poll.register(role.report, select.POLLIN)
        if poll.poll(max(0.0, seconds) * 1000):
            self._read_report(role)

    def may_accept(self, planned: PlannedService) -> bool:
        """Whether a process may still accept clients of a service, or wait for an answer about one."""
        return any(role.spec.may_accept(planned) for role, _ in self.roles.values())

    @property
    def may_start_servers(self) -> bool:
        """Whether a process may still accept a client that gets a server, or wait for an answer about one."""
        return any(role.spec.starts_servers for role, _ in self.roles.values())

    @property
    def server_listeners(self) -> frozenset[int]:
        """The listeners (descriptors) whose clients may still be accepted and get a server."""
        kinds = {role.spec.kind for role, _ in self.roles.values() if role.spec.starts_servers}
        return frozenset(fd for kind, programs in self._duties.programs.items() if kind in kinds for fd, _ in programs)

    def _places_for(self, spec: RoleSpec) -> Iterator[RolePlace]:
        """The places of one kind of role, as far as there is work for them. Raises OSError."""
        for number in spec.numbers(self._duties.acceptors):
            work = spec.work(self._duties, number, self._channels)
            if work is not None:
                keep = (*work.keep, self._board.wake) if spec.has_section else work.keep
                yield RolePlace(spec, number, work.main, keep, BackOff(ceiling=RESTART_LONGEST))

    def _fill_place(self, place: RolePlace) -> None:
        """Fork a process for a place, now or later."""
        try:
            self._fork_for(place)
        except LACKS as error:
            self._messages.error(f"cannot start {place.title}: {_error_text(error)}; it is tried again")
            self._loop.later(place.back_off.failed(), lambda: None if self.retired else self._fill_place(place))

    def _fork_for(self, place: RolePlace) -> None:
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
        self._children.role_forked(role.pid)
        self._loop.watch(role.pidfd, lambda _: self._role_ended(role, place))
        self._loop.watch(role.report, lambda _: self._read_report(role))

    def _read_report(self, role: Role) -> None:
        self._loop.unwatch(role.report)
        role.read_report()

    def _role_ended(self, role: Role, place: RolePlace) -> None:
        """Reap a role's process, and have another one take its place unless this generation is retired."""
        try:
            pid, status = os.waitpid(role.pid, os.WNOHANG)
        except ChildProcessError:  # it was reaped as a server, by its pid: its slots are adopted all the same
            pid, status = role.pid, 1 << 8
        if pid == 0:
            return
        self._loop.unwatch(role.pidfd)
        self._read_report(role)
        del self.roles[role.pid]
        self._children.role_reaped(role.pid)
        try:
            self._ended(role, status)
        finally:
            role.forget()
        if self.retired:
            self._retire_last()
            return
        how = _end_text(status, role.trouble)
        self._messages.error(f"{role.title} (pid {role.pid}) ended {how}; another takes its place")
        if time.monotonic() - place.since > STARTED_AFTER:
            place.back_off.succeeded()
            self._fill_place(place)
        else:
            pause = place.back_off.failed()
            self._loop.later(0.0 if pause <= 0.1 else pause, lambda: None if self.retired else self._fill_place(place))

    def resume_stopped(self) -> None:
        """Have roles go on that have been stopped. Only root can stop one that keeps its privileges, and it stays so;
        any process of their user can stop the others, and with them services that have nothing to do with it."""
        for role, place in self.roles.values():
            if not role.spec.keeps_privileges and role.resume() and not place.stopped:
                place.stopped = True
                self._messages.warning(
                    f"{role.title} (pid {role.pid}) had been stopped and goes on; if root did not stop it another "
                    "process of its user did: give the daemon a user of its own (useradd --system fastinetd), and "
                    "start it again"
                )

    def renew_pools(self) -> None:
        """Replace the processes of pools that wait for clients; those that serve one go on."""
        for role, _ in self.roles.values():
            if role.spec.has_pools:
                role.renew_pools()

    def retire(self) -> None:
        """Ask every role to finish what it has in hand and leave."""
        self.retired = True
        for role, _ in self.roles.values():
            if not role.spec.leaves_last:
                role.retire()
        self._retire_last()

    def _retire_last(self) -> None:
        """End the roles that leave last, once all others have left."""
        if all(role.spec.leaves_last for role, _ in self.roles.values()):
            self._end_questions()

    def abandon(self) -> None:
        """End every role at once, as if the supervisor had died; a role that is still there a while later is killed."""
        self.retired = True
        for role, _ in self.roles.values():
            role.abandon()
        self._end_questions()
        self._loop.later(LEAVE_WITHIN, self._kill_abandoned)

    def give_up(self) -> None:
        """End a generation that does not take over. Its ready roles may have got clients, and finish these; the others
        have none, and leave at once."""
        for role, place in self.roles.values():
            if place.spec.must_be_ready:
                self._await_report(role, 0.0)
                if not role.ready:
                    role.abandon()
        self.retire()
        self._loop.later(LEAVE_WITHIN, self._kill_abandoned)

    def _kill_abandoned(self) -> None:
        """Kill the roles that should have left and have not."""
        for role in [role for role, _ in self.roles.values() if role.abandoned]:
            self._messages.error(f"{role.title} (pid {role.pid}) does not leave: it is stopped or hangs; it is killed")
            role.kill()

    def _end_questions(self) -> None:
        """Close the channels, as no role asks any more, and end the roles that answer on them."""
        self._channels.close()
        for role, _ in self.roles.values():
            if role.spec.leaves_last and not role.retired:
                role.abandon()


def _error_text(error: Exception) -> str:
    """Why a role cannot be started, with the remedy where one is known."""
    return explain_error(error) if isinstance(error, OSError | MemoryError) else str(error)


def _end_text(status: int, trouble: str) -> str:
    """How a role's process ended, by its wait status, and why, by its report."""
    code = os.waitstatus_to_exitcode(status)
    why = f" ({trouble})" if trouble else ""
    return f"by signal {-code}" if code < 0 else f"with status {code}{why}"
