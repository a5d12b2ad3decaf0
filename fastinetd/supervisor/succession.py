"""The generations: which one serves, and which ones are leaving.

Theory. A generation takes over only when every role that accepts clients has said that it is ready. Until then the one
before serves as it did; if one does not come up, all of them are given up, and nothing has changed but for the clients
that those who did have got meanwhile: these are served to their end.

Rules of this file: it owns the generations. What there is to serve, and what follows from a change, others say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastinetd.core.board import Board
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.policy.back_off import BackOff
from fastinetd.supervisor.duties import Duties
from fastinetd.supervisor.generation import Generation, Unready
from fastinetd.supervisor.roles import Role
from fastinetd.system.allowances import explained
from fastinetd.system.loop import Loop, Timer

RETIRING_MOST = 8  # generations that may go on with what they had in hand; with more the oldest must leave


class Succession:
    """All generations that have processes."""

    def __init__(self, board: Board, loop: Loop, messages: DaemonLog, duties: Callable[[], Duties],
                 ended: Callable[[Role, int], None], took_over: Callable[[Generation], None]) -> None:
        """`duties()` of roles that are forked now; `ended(role, status)` as Generation's; `took_over(generation)` is
        called before the one that served is told to retire; it may raise what `replace` does."""
        self._loop = loop
        self._messages = messages
        self._make: Callable[[], Generation] = lambda: Generation(board, loop, messages, duties(), ended)
        self._took_over = took_over
        self._again: Timer | None = None
        self._back_off = BackOff(first=1.0)
        self.serving: Generation | None = None
        self.retiring: list[Generation] = []

    def __iter__(self) -> Iterator[Generation]:
        yield from self.retiring
        if self.serving is not None:
            yield self.serving

    def replace(self) -> None:
        """Fork the roles anew for what there is to serve now. Raises OSError, MemoryError and Unready: then who served
        goes on. The first ones, before whom nobody did, are started as far as that can be had."""
        old, new = self.serving, self._make()
        try:
            if old is None:
                new.start()
            else:
                new.start_whole()
                self.retiring.append(old)
            self.serving = new
            self._took_over(new)
        except BaseException:
            self._keep(old, new)
            raise
        self._rest()
        self._back_off.succeeded()
        if old is not None:
            old.retire()
        self._abandon_oldest()

    def _keep(self, old: Generation | None, new: Generation) -> None:
        """Have the one go on that served, and the other leave."""
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
        """The same, for listeners that have been opened late: what cannot be had is tried again, later and later."""
        self._rest()
        if self.serving is None:
            return
        try:
            self.replace()
        except (OSError, MemoryError, Unready) as error:
            why = error if isinstance(error, Unready) else explained(error)
            self._messages.error(f"no other roles can be started: {why}; those there are go on, and it is tried again")
            self._again = self._loop.later(self._back_off.failed(), self.renew)

    def _rest(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def is_role(self, pid: int) -> bool:
        return any(pid in generation.roles for generation in self)

    def role_ended(self) -> None:
        """Forget the generations that have left."""
        self.retiring = [generation for generation in self.retiring if generation.roles]

    def abandon(self) -> None:
        """End every role of the one that serves at once; the daemon leaves."""
        self._rest()
        if self.serving is not None:
            self.serving.abandon()
            self.retiring.append(self.serving)
            self.serving = None
