"""The kinds of role: a row for each, with the rules that hold of its processes and with what they run.

Theory. Forking, replacing, retiring and adopting are the same for every role; where one role is treated differently,
a field of its row says so, and no other file compares kinds. So another kind of role is a row here, with the function
that gives its processes their work, and a folder with what they run. A service's clients are accepted by one kind:
where another row takes over a part of the services, `accepts` of the row that had them leaves these out.

Rules of this file: `work` runs in the supervisor and only chooses and opens; the RoleMain that it returns runs in the
forked process, before privileges are given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fastinetd._accept import Acceptor
from fastinetd.core.board import Board
from fastinetd.core.program import Program
from fastinetd.doorman import doorman
from fastinetd.monitor import monitor
from fastinetd.plan.model import Mode, PlannedService
from fastinetd.relay.relay import Relay
from fastinetd.supervisor.channels import Channels
from fastinetd.supervisor.duties import Duties, programs_of

RoleMain = Callable[[Board, int | None, int], Callable[[], None]]
"""Makes a role, given the Board, its section and its control pipe; returns what it does then."""


@dataclass(frozen=True)
class Work:
    """What one process of a role runs, and the descriptors that it needs for that (borrowed)."""

    main: RoleMain
    keep: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RoleSpec:
    """The rules for one kind of role."""

    kind: str  # in titles and messages
    work: Callable[[Duties, int, Channels], Work | None]  # of the process with that number; None: there is none to do
    numbered: bool  # as many processes as the daemon has acceptors, numbered from 1; otherwise one, without a number
    accepts: Callable[[PlannedService], bool] | None  # whether its clients are accepted here; None: no clients at all
    has_section: bool  # counts and records on the Board
    has_pools: bool  # processes that wait for connections
    keeps_privileges: bool  # starts programs for other users
    leaves_sessions: bool  # serves in process: however it ends, sessions may be counted that have ended with it
    leaves_last: bool  # the other roles wait for its answers, so it stays until they have left

    def numbers(self, acceptors: int) -> Sequence[int]:
        """The numbers of its processes in a daemon with so many acceptors; 0 is the only one's."""
        return range(1, acceptors + 1) if self.numbered else (0,)

    def title(self, number: int) -> str:
        """What messages and `ps` call its process with this number."""
        return f"{self.kind} {number}" if self.numbered else self.kind

    @property
    def must_be_ready(self) -> bool:
        """Whether a generation takes over only once this role is ready: to accept clients."""
        return self.accepts is not None

    @property
    def starts_servers(self) -> bool:
        """Whether clients that it accepts get servers, which live on when it has left; it leaves soon after it has been
        retired."""
        return self.accepts is not None and not self.leaves_sessions

    def may_accept(self, planned: PlannedService) -> bool:
        """Whether clients of a service are this role's to accept."""
        return self.accepts is not None and self.accepts(planned)

    def crashed(self, status: int) -> bool:
        """Whether counts must be made anew after a process that ended with this wait status."""
        return status != 0 or self.leaves_sessions


def _acceptor_work(duties: Duties, number: int, channels: Channels) -> Work:
    programs = programs_of(number, duties.acceptors, duties.programs["acceptor"])
    question = _question_channel(duties, channels)

    def main(board: Board, section: int | None, control: int) -> Callable[[], None]:
        assert section is not None
        return Acceptor(board, section, list(programs), control, question, duties.acceptors).run

    return Work(main, _kept_descriptors(duties, programs, question))


def _relay_work(duties: Duties, _: int, channels: Channels) -> Work | None:
    programs = duties.programs["relay"]
    if not programs:
        return None
    question = _question_channel(duties, channels)

    def main(board: Board, section: int | None, control: int) -> Callable[[], None]:
        assert section is not None
        return Relay(board, section, list(programs), control, question).run

    return Work(main, _kept_descriptors(duties, programs, question))


def _question_channel(duties: Duties, channels: Channels) -> int:
    """The channel on which a role that accepts clients asks the doorman about them (borrowed); -1 if names decide on no
    client. Raises OSError."""
    return channels.open().fileno() if duties.tables else -1


def _kept_descriptors(duties: Duties, programs: Sequence[tuple[int, Program]], question: int) -> tuple[int, ...]:
    """The descriptors that a role needs which accepts clients of these programs."""
    others = (question, duties.library, *(program.errors for _, program in programs))
    return (*(listener for listener, _ in programs), *(each for each in others if each >= 0))


def _doorman_work(duties: Duties, _: int, channels: Channels) -> Work | None:
    answering = channels.answering
    if not answering:
        return None

    def main(board: Board, section: int | None, control: int) -> Callable[[], None]:
        board.unmap()
        return lambda: doorman.run(list(answering), duties.tables, control=control)

    return Work(main, answering)


def _monitor_work(duties: Duties, _: int, channels: Channels) -> Work | None:
    metrics = duties.metrics
    if metrics is None:
        return None

    def main(board: Board, section: int | None, control: int) -> Callable[[], None]:
        board.unmap()
        view = Board.open(duties.reader, False)
        return partial(monitor.run, metrics, control, view, duties.services,
                       version=duties.version, unserved=duties.unserved)

    return Work(main, (metrics, duties.reader))


ROLES = (
    RoleSpec(
        kind="acceptor", work=_acceptor_work, numbered=True, accepts=lambda planned: planned.mode is Mode.NOWAIT,
        has_section=True, has_pools=True,
        keeps_privileges=True, leaves_sessions=False, leaves_last=False,
    ),
    RoleSpec(
        kind="relay", work=_relay_work, numbered=False, accepts=lambda planned: planned.mode is Mode.BUILTIN,
        has_section=True, has_pools=False,
        keeps_privileges=False, leaves_sessions=True, leaves_last=False,
    ),
    RoleSpec(
        kind="doorman", work=_doorman_work, numbered=False, accepts=None, has_section=False, has_pools=False,
        keeps_privileges=False, leaves_sessions=False, leaves_last=True,
    ),
    RoleSpec(
        kind="monitor", work=_monitor_work, numbered=False, accepts=None, has_section=False, has_pools=False,
        keeps_privileges=False, leaves_sessions=False, leaves_last=False,
    ),
)
"""Every kind of role, in the order in which a generation starts them. The doorman comes after all who ask it: only then
are the channels that it answers there."""


def sections_of_generation(acceptors: int) -> int:
    """How many sections of the Board the roles of one generation need."""
    return sum(len(spec.numbers(acceptors)) for spec in ROLES if spec.has_section)
