"""The generations: which one serves, and which ones are leaving.

Theory. A generation takes over only when every role that accepts clients has reported that it is ready. Until then the
one before serves as it did; if one role does not come up, the whole generation is given up, and nothing has changed but
for the clients that its ready roles have got meanwhile: these are served to their end.

Rules of this file: it owns the generations. What there is to serve is the roster's to say, what passes from one
generation to another is in takeover.py, and what becomes of an ended role's servers in role_ends.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.policy.back_off import BackOff
from fastinetd.services.children import Children
from fastinetd.services.listeners import Listeners
from fastinetd.supervisor.duty_roster import DutyRoster
from fastinetd.supervisor.generation import Generation, Unready
from fastinetd.supervisor.role_ends import RoleEnds
from fastinetd.supervisor.roles import Role
from fastinetd.supervisor.takeover import Takeover
from fastinetd.system.allowances import explain_error
from fastinetd.system.loop import Loop, Timer

RETIRING_MOST = 8  # generations that may go on with what they had in hand; with more the oldest must leave

RESUME_AFTER = 0.05
"""Seconds after which a role goes on that has been stopped: whoever stops it again and again must not keep the
supervisor busy."""

RENEW_FIRST = 1.0
"""Seconds until listeners that were opened late are offered to new roles again, after the first time that failed."""


class Succession:
    """All generations that have processes."""

    def __init__(self, board: Board, loop: Loop, messages: DaemonLog, roster: DutyRoster, children: Children,
                 role_ends: RoleEnds, takeover: Takeover, listeners: Listeners) -> None:
        self._board = board
        self._loop = loop
        self._messages = messages
        self._roster = roster
        self._children = children
        self._role_ends = role_ends
        self._takeover = takeover
        listeners.opened_late = self.renew
        self._again: Timer | None = None
        self._resuming = False
        self._back_off = BackOff(first=RENEW_FIRST)
        self.serving: Generation | None = None
        self.retiring: list[Generation] = []

    def __iter__(self) -> Iterator[Generation]:
        yield from self.retiring
        if self.serving is not None:
            yield self.serving

    def replace(self) -> None:
        """Fork the roles anew for what there is to serve now. Raises OSError, MemoryError and Unready: then the
        generation that served goes on. The first one, before which none did, is started as far as that can be had."""
        duties = self._roster.duties()
        old = self.serving
        new = Generation(self._board, self._loop, self._messages, duties, self._children, self._role_ended)
        try:
            if old is None:
                new.start()
            else:
                new.start_whole()
                self.retiring.append(old)
            self.serving = new
            self._takeover.generation_serves(new, self.retiring)
        except BaseException:
            self._keep(old, new)
            raise
        self._forget_renewal()
        self._back_off.succeeded()
        if old is not None:
            old.retire()
        self._abandon_oldest()

    def _keep(self, old: Generation | None, new: Generation) -> None:
        """Have the generation go on that served, and the new one leave."""
        new.give_up()
        self.retiring = [generation for generation in self.retiring if generation is not old]
        if new.roles:
            self.retiring.append(new)
        self.serving = old
        self._abandon_oldest()

    def _abandon_oldest(self) -> None:
        for oldest in self.retiring[:-RETIRING_MOST]:
            oldest.abandon()

    def renew(self) -> None:
        """Have listeners that were opened late served, by new roles: what cannot be had is tried again, later and
        later."""
        self._forget_renewal()
        if self.serving is None:
            return
        try:
            self.replace()
        except (OSError, MemoryError, Unready) as error:
            why = error if isinstance(error, Unready) else explain_error(error)
            self._messages.error(f"no other roles can be started: {why}; those there are go on, and it is tried again")
            self._again = self._loop.later(self._back_off.failed(), self.renew)

    def child_changed(self) -> None:
        """A child has ended, been stopped or gone on (on SIGCHLD): soon have the roles go on that have been stopped."""
        if not self._resuming:
            self._resuming = True
            self._loop.later(RESUME_AFTER, self._resume_stopped)

    def _resume_stopped(self) -> None:
        self._resuming = False
        for generation in self:
            generation.resume_stopped()

    def _forget_renewal(self) -> None:
        """What was to be tried again has been done, or is done now."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _role_ended(self, role: Role, status: int) -> None:
        """A role's process of one of the generations has ended."""
        self._role_ends.settle(role, status)
        self.retiring = [generation for generation in self.retiring if generation.roles]
        if role.retired and self.serving is not None:
            self._takeover.retired_role_left(role, self.retiring)

    def abandon(self) -> None:
        """End every role of the generation that serves at once, and close the listeners; the daemon leaves."""
        self._forget_renewal()
        self._takeover.stop_asking()
        if self.serving is not None:
            self.serving.abandon()
            self.retiring.append(self.serving)
            self.serving = None
        self._takeover.stop_listening()
