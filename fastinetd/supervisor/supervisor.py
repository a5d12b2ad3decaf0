"""The supervisor: the daemon's first process, which makes its parts and starts them.

Theory. A configuration is read, planned and installed as a whole, or not at all (reconfiguration, installation).
Processes of roles serve it, a generation of them for each plan (succession, generation). However a role ends, retired,
crashed or killed, its servers are adopted (role_ends). Everything else that happens is a signal, a child's end or a
record in the journal.

Rules of this file: nothing here reads a byte of a client. Parts are made in an order in which each gets those that it
works with; where an earlier part must call a later one, its docstring says why (Listeners, WaitContext, Generation).
"""

from __future__ import annotations

import os
import signal

from fastinetd import __version__
from fastinetd.config.settings import MOST_PROCESSES
from fastinetd.control.dump import DUMP_PATH, describe_failure
from fastinetd.control.snapshot import DumpSources, dump_state
from fastinetd.core.board import Board
from fastinetd.core.keeper import Keeper
from fastinetd.doorman.client import DoormanClient
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.service_log import ServiceLog
from fastinetd.logs.standard_error import StandardErrors
from fastinetd.plan.plan import MOST_SERVICES
from fastinetd.plan.surroundings import Surroundings
from fastinetd.services.children import Children
from fastinetd.services.closed_ports import ClosedPorts
from fastinetd.services.counts import check_counts
from fastinetd.services.installed import InstalledServices
from fastinetd.services.journal_reader import JournalReader
from fastinetd.services.listeners import Listeners
from fastinetd.services.rate_episodes import Episodes
from fastinetd.services.wait_services import WaitServices
from fastinetd.supervisor.departure import Departure
from fastinetd.supervisor.duty_roster import DutyRoster
from fastinetd.supervisor.installation import Installation
from fastinetd.supervisor.journal_wakeups import JournalWakeups
from fastinetd.supervisor.options import Options
from fastinetd.supervisor.reconfiguration import Reconfiguration
from fastinetd.supervisor.removals import Removals
from fastinetd.supervisor.role_ends import RoleEnds
from fastinetd.supervisor.role_specs import sections_of_generation
from fastinetd.supervisor.signals import handle_signals
from fastinetd.supervisor.status import Status
from fastinetd.supervisor.succession import RETIRING_MOST, Succession
from fastinetd.supervisor.takeover import Takeover
from fastinetd.system.clock import ClockWatch
from fastinetd.system.descriptors import lift_descriptor
from fastinetd.system.loop import Loop
from fastinetd.system.notify import Notifier
from fastinetd.system.processes import PR_SET_CHILD_SUBREAPER, prctl


class Supervisor:
    """The daemon's first process."""

    def __init__(self, options: Options, messages: DaemonLog, surroundings: Surroundings) -> None:
        self.options = options
        self.messages = messages
        notifier = Notifier()  # first of all: no process that is started may have its variables
        if notifier.trouble is not None:
            messages.warning(notifier.trouble)
        self.loop = loop = Loop(messages.error)
        self.board = board = _board_for(options)
        # services and listeners
        self.services = InstalledServices(board, loop, StandardErrors(loop, messages.warning))
        ClockWatch(loop, self.services.look_at_clock)
        self.listeners = Listeners(loop, messages)
        roster = DutyRoster(options, self.services, self.listeners, lift_descriptor(board.reader()))
        self.status = Status(board, loop, self.services, self.listeners, notifier)
        # the journal
        self.log = ServiceLog(messages)
        closed_ports = ClosedPorts(board, loop, self.services, self.listeners, messages)
        episodes = Episodes(board, loop, self.services, messages)
        journal = JournalReader(board, loop, self.log, closed_ports, episodes)
        # servers of the supervisor's own
        keeper = Keeper(board, board.section_claim(os.getpid()))
        self.children = Children(board, loop, keeper, self.services, journal)
        questions = DoormanClient(loop)
        self.wait_services = WaitServices(
            board, loop, keeper, self.children, questions, self.listeners, messages
        )
        removals = Removals(board, self.services, self.children, self.log, closed_ports, journal)
        self.journal_wakeups = JournalWakeups(board, loop, journal, removals, self.status)
        # roles
        role_ends = RoleEnds(board, loop, self.children, closed_ports)
        takeover = Takeover(roster, self.wait_services, questions, self.listeners, removals, self.status)
        self.succession = Succession(board, loop, messages, roster, self.children, role_ends, takeover,
                                     self.listeners)
        # configurations
        self.installation = Installation(self.services, self.listeners, roster, self.log, self.children,
                                         self.wait_services, removals, takeover, self.succession)
        self.reconfiguration = Reconfiguration(options, messages, surroundings, self.services, self.log,
                                               self.succession, self.installation, self.status)
        self.departure = Departure(options, board, loop, messages, self.services, self.children, self.succession,
                                   journal, self.log, self.status)

    def start(self) -> bool:
        """Read the configuration, listen and fork. False when there is nothing to serve, with the reasons in the log.
        Raises OSError and MemoryError."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        plan = self.reconfiguration.read_first()
        if plan is None:
            return False
        handle_signals(self.loop, {
            signal.SIGHUP: self.reconfiguration.reload, signal.SIGUSR2: self.reconfiguration.reload,
            signal.SIGTERM: self.departure.terminate, signal.SIGINT: self.departure.terminate,
            signal.SIGQUIT: self.departure.leave, signal.SIGUSR1: self._dump,
            signal.SIGABRT: self._check, signal.SIGCHLD: self._child_changed,
        }, self.messages)
        self.installation.install(plan)
        self.status.loaded()
        if self.options.check_every:
            self.loop.later(self.options.check_every, self._check_again)
        self.messages.info(f"fastinetd Version {__version__} started")
        count = sum(bool(self.listeners.sockets_of_service(installed.planned)) for installed in self.services)
        self.messages.info(f"Started working: {count} available service{'' if count == 1 else 's'}")
        return True

    def run(self) -> None:
        """Serve until a signal ends the daemon."""
        self.status.serving()
        self.status.feed_watchdog()
        self.journal_wakeups.start()
        self.loop.run()

    def _child_changed(self) -> None:
        """SIGCHLD: a server or a role has ended, or has been stopped."""
        self.succession.child_changed()
        self.children.reap()

    # ---- what an administrator may ask for ----

    def _sources(self) -> DumpSources:
        """The parts that a dump is made of."""
        roles = [(role.title, role.pid) for each in self.succession for role, _ in each.roles.values()]
        return DumpSources(self.board, self.services, self.listeners, self.wait_services, self.log, roles,
                       self.options.source, self.options.process_limit)

    def _dump(self) -> None:
        """SIGUSR1: write the state where an administrator of xinetd looks for it."""
        try:
            dump_state(self._sources(), DUMP_PATH)
        except OSError as error:
            self.messages.error(describe_failure(DUMP_PATH, error))
        else:
            self.messages.info(f"generated state dump in file {DUMP_PATH}")

    def _check(self) -> None:
        """SIGABRT and -cc: compare the counts with the slots; after a difference count again."""
        check_counts(self.board, self.messages)

    def _check_again(self) -> None:
        """-cc: compare the counts from time to time."""
        self._check()
        self.loop.later(self.options.check_every, self._check_again)


def _board_for(options: Options) -> Board:
    """A Board with sections for the supervisor, and for the roles of all generations that retire, of the one that
    serves, and of the next one."""
    sections = 1 + (RETIRING_MOST + 2) * sections_of_generation(options.acceptors)
    board = Board.create(MOST_SERVICES, MOST_PROCESSES, sections)
    board.set_process_limit(options.process_limit)
    return board
