"""The supervisor: one Plan after another, the processes that serve it, and everything that happens rarely.

Theory. A configuration is read, planned and installed as a whole, or not at all. Installing opens the listeners that
are missing, writes limits on the Board, forks a new generation and retires the old one; listeners, rows and running
servers that both have stay as they are. However a role ends, retired, crashed or killed, its slots are adopted.

Rules of this file: it never reads a byte of a client. It decides, others do; what can be said without the running
daemon is said elsewhere (plan, rows, listeners, generation, wait, children, records).
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastinetd import __version__
from fastinetd._accept import Keeper
from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Config
from fastinetd.control.dump import DUMP_PATH, failure
from fastinetd.control.snapshot import Sources, dump_state
from fastinetd.core.board import Board
from fastinetd.core.program import Program
from fastinetd.doorman.client import DoormanClient
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.service_log import JournalEntry, ServiceLog
from fastinetd.logs.standard_error import StandardErrors
from fastinetd.plan.model import Endpoint, Mode, Plan, has_zygotes
from fastinetd.plan.plan import MOST_SERVICES, forget_lookups, make_plan
from fastinetd.plan.surroundings import Surroundings
from fastinetd.services.children import Children, check_counts
from fastinetd.services.closed_ports import ClosedPorts
from fastinetd.services.installed import InstalledService, InstalledServices
from fastinetd.services.listeners import Listeners, ListenRequest
from fastinetd.services.rate_episodes import Episodes
from fastinetd.services.wait_services import WaitServices
from fastinetd.stage.library import library
from fastinetd.supervisor.duties import Duties
from fastinetd.supervisor.generation import Generation, Unready
from fastinetd.supervisor.journal_reader import JournalReader
from fastinetd.supervisor.removals import Removals
from fastinetd.supervisor.role_specs import sections_of_generation
from fastinetd.supervisor.roles import Role
from fastinetd.supervisor.signals import handle_signals
from fastinetd.supervisor.status import Status, info_of
from fastinetd.supervisor.succession import RETIRING_MOST, Succession
from fastinetd.system.allowances import explained
from fastinetd.system.clock import ClockWatch
from fastinetd.system.descriptors import lift
from fastinetd.system.loop import Loop
from fastinetd.system.notify import Notifier
from fastinetd.system.processes import PR_SET_CHILD_SUBREAPER, prctl

SLOTS = 65536

STOP_WITHIN = 5.0
"""Seconds that servers have after SIGTERM before the daemon leaves without them."""


@dataclass(frozen=True)
class Options:
    """How the daemon was started, as far as the supervisor needs to know."""

    read: Callable[[Report], Config]  # reads the configuration
    source: str  # its file
    acceptors: int
    metrics: socket.socket | None = None
    process_limit: int | None = None
    stay_alive: bool = False
    dump_path: str = DUMP_PATH
    check_every: float = 0.0  # seconds between consistency checks; 0: only on SIGABRT
    stopping: Callable[[], None] = lambda: None  # called when nobody is served any more


class Supervisor:
    """The daemon's first process."""

    def __init__(self, options: Options, messages: DaemonLog, surroundings: Surroundings) -> None:
        self.options = options
        self.messages = messages
        self.surroundings = surroundings
        self.notifier = Notifier()
        self.loop = Loop(messages.error)
        # Sections for the supervisor, and for the roles of those that retire, who serves, and who is next.
        sections = 1 + (RETIRING_MOST + 2) * sections_of_generation(options.acceptors)
        self.board = Board.create(MOST_SERVICES, SLOTS, sections)
        self.board.set_process_limit(options.process_limit)
        self.reader = lift(self.board.reader())
        self.rows = InstalledServices(self.board, self.loop, StandardErrors(self.loop, messages.warning))
        ClockWatch(self.loop, self.rows.look_at_clock)
        self.generations = Succession(
            self.board, self.loop, messages, self._duties, self._role_ended, self._took_over
        )
        self.listeners = Listeners(self.loop, messages)
        self.listeners.opened_late = self.generations.renew
        self.keeper = Keeper(self.board, self.board.section_claim(os.getpid()))
        self.children = Children(self.board, self.keeper, self.rows.program_of, self.generations.is_role,
                                 lambda: self.records.drain(), self.loop.later)
        self.questions = DoormanClient(self.loop)
        self.waiting = WaitServices(
            self.board, self.loop, self.keeper, self.children, self.questions, self.listeners, messages
        )
        self.journal = ServiceLog(messages)
        self.reopen = ClosedPorts(self.board, self.rows, self.loop, messages, self._sockets)
        episodes = Episodes(self.board, self.rows, self.loop, messages.say)
        self.records = JournalReader(
            self.board, self.loop, self.journal, self.reopen.later, episodes.began, self._drained
        )
        self.parting = Removals(
            self.board, self.rows, self.loop, tell=self.children.signal, forget=self.journal.forget,
            drain=self.records.drain, reopen=self.reopen.again,
        )
        self.plan = Plan()
        self.status = Status(self.board, self.rows, self.loop, self.listeners)

    # ---- life ----

    def start(self) -> bool:
        """Read, plan, listen, fork. False when there is nothing to serve, with the reasons told."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        config, plan, report = self._read()
        self.messages.tell(report)
        if config.fatal:
            self.messages.critical(f"{config.source} cannot be used; mend what is told above")
            return False
        if not plan.services and not self.options.stay_alive:
            self.messages.critical(f"{config.source} has no service that can be started; add one, or use -stayalive")
            return False
        handle_signals(self.loop, {
            signal.SIGHUP: self.reload, signal.SIGUSR2: self.reload, signal.SIGTERM: self.terminate,
            signal.SIGINT: self.terminate, signal.SIGQUIT: self.leave, signal.SIGUSR1: self._dump,
            signal.SIGABRT: self._check, signal.SIGCHLD: self.children.reap,
        }, self.messages.warning)  # fmt: skip
        self._install(plan)
        self.status.loaded(True)
        if self.options.check_every:
            self.loop.later(self.options.check_every, self._check_again)
        self.messages.info(f"fastinetd Version {__version__} started")
        count = sum(bool(self._sockets(installed)) for installed in self.rows)
        self.messages.info(f"Started working: {count} available service{'' if count == 1 else 's'}")
        return True

    def run(self) -> None:
        """Serve until told to stop."""
        self.status.publish(ready=True)
        self.notifier.ready(self.status.summary())
        self._watchdog()
        self.status.retitle()
        self.records.start()
        self.loop.run()

    def _watchdog(self) -> None:
        """Tell the service manager that the loop turns, as often as it wants to know."""
        interval = self.notifier.watchdog_interval
        if interval is not None:
            self.notifier.watchdog()
            self.loop.later(interval, self._watchdog)

    def reload(self) -> None:
        """Read the configuration again; install it if it can be used, keep everything as it is if not."""
        if (generation := self.generations.serving) is None:
            return
        self.messages.notice("Starting reconfiguration")
        self.notifier.reloading()
        self.status.loaded(False)
        try:
            self._reconfigure(generation)
        except (OSError, MemoryError, Unready) as error:
            why = str(error) if isinstance(error, Unready) else explained(error)
            self.messages.error(f"reconfiguration failed, the configuration in use is kept: {why}; then reload again")
        finally:  # whatever went wrong, the daemon serves, and the service manager hears so
            self.status.publish(ready=True)
            self.notifier.ready(self.status.summary())
            self.status.retitle()

    def _reconfigure(self, generation: Generation) -> None:
        """Raises OSError, MemoryError and Unready, with everything as it was."""
        config, plan, report = self._read()
        self.messages.tell(report)
        self.journal.reopen()
        if (why := self._why_not(config, plan, report.errors)) is not None:
            self.messages.error(f"reconfiguration failed{why}: the configuration in use is kept; mend {config.source}")
            return
        before, dropped = len(self.rows), 0
        if plan == self.plan:
            generation.renew_pools()  # what their programs have read may have changed
        else:
            dropped = self._install(plan)
        self.status.loaded(True)
        kept = before - dropped
        self.messages.notice(f"Reconfigured: new={len(self.rows) - kept} old={kept} dropped={dropped} (services)")
        if not plan.services:
            self.messages.warning(f"{config.source} has no service, so nothing is served; add one, and reload again")

    def _why_not(self, config: Config, plan: Plan, errors: int) -> str | None:
        """Why it cannot take the place of what is in use. Without an error, to have no service is a wish."""
        if config.fatal or (errors and not plan.services):
            return "" if config.fatal else ", with these errors nothing would be served"
        return None if self.rows.room_for(plan) else f", it has more than {self.board.rows} services"

    def terminate(self) -> None:
        """SIGTERM: take no more connections, tell every server, and leave when they have ended or time is up."""
        if self.generations.serving is None:
            return
        self._stop_serving()
        deadline = time.monotonic() + STOP_WITHIN
        told: set[int] = set()

        def look() -> None:
            left = [slot for slot in self.board.slots_in_use() if slot.pid]
            for pid in {slot.pid for slot in left} - told:  # acceptors finish what they have in hand: more may come
                told.add(pid)
                self.children.signal(pid, signal.SIGTERM)
            if left and time.monotonic() < deadline:
                self.loop.later(0.05, look)
                return
            for slot in left:
                self.messages.warning(f"server with pid {slot.pid} did not end on SIGTERM and is left running")
            self.leave()

        look()

    def _stop_serving(self) -> None:
        self.notifier.stopping()
        self.status.publish(ready=False)
        self.questions.use(None)
        self.generations.abandon()
        self.waiting.serve([])
        self.listeners.close()
        if self.options.metrics is not None:
            self.options.metrics.close()
        self.options.stopping()

    def leave(self) -> None:
        """SIGQUIT, and the end of SIGTERM: go, and leave running servers alone."""
        self._stop_serving()
        deadline = time.monotonic() + 2.0

        def look() -> None:
            if any(generation.roles for generation in self.generations) and time.monotonic() < deadline:
                self.loop.later(0.01, look)
                return
            for generation in self.generations:
                for pid in generation.roles:
                    self.children.signal(pid, signal.SIGKILL)
            while self.records.drain():
                pass
            self.rows.finish()
            self.messages.info("Exiting...")
            self.journal.close()
            self.loop.stop()

        look()

    # ---- configuration ----

    def _read(self) -> tuple[Config, Plan, Report]:
        report = Report()
        forget_lookups()
        config = self.options.read(report)
        plan = Plan() if config.fatal else make_plan(config, self.surroundings, report)
        return config, plan, report

    def _install(self, plan: Plan) -> int:
        """Make `plan` what is served; returns how many services it removes. Raises as `_reconfigure` does."""
        before = [*self.rows]
        removed = self.rows.install(plan)
        try:
            dropped = self._listen(plan)
            misplaced = self.waiting.misplaced_servers(self._listening(self.rows), removed)
            self._configure_journal()
            self.generations.replace()
        except BaseException:
            self._part(self.rows.put_back(before, self.plan), self._listen(self.plan), self.plan)
            self._configure_journal()
            self._hand_over()
            raise
        for pid in misplaced:
            self.children.signal(pid, signal.SIGTERM)
        self._part(removed, dropped, plan)
        self.plan = plan
        return len(removed)

    def _listen(self, plan: Plan) -> set[Endpoint]:
        """Open what a plan listens on; returns what it does not."""
        self.parting.come_back({installed.row for installed in self.rows})
        return self.listeners.want(
            ListenRequest(endpoint, planned.options, planned.mode is Mode.WAIT, planned.id)
            for planned in plan.services
            for endpoint in planned.endpoints
        )

    def _part(self, removed: list[InstalledService], dropped: set[Endpoint], plan: Plan) -> None:
        """Close what is not listened on any more, and see services off that are not this plan's."""
        self.waiting.withdraw(sock for endpoint in dropped for sock in self.listeners.sockets_of(endpoint))
        self.listeners.drop(dropped)
        self.parting.begin(removed, plan, tuple(self.generations.retiring))

    def _configure_journal(self) -> None:
        self.journal.configure({
            row: JournalEntry(planned.id, planned.service.log_type, os.fsdecode(planned.start.path))
            for row, planned in ((installed.row, installed.planned) for installed in self.rows)
        })  # fmt: skip

    def _took_over(self, generation: Generation) -> None:
        self.status.generation()
        self._hand_over()
        self.questions.use(generation.questions)

    def _hand_over(self) -> None:
        """Watch the sockets of wait services, but those that an older generation's acceptors may still accept from."""
        taken = {fd for generation in self.generations.retiring if generation.accepts for fd in generation.accepting}
        listening = self._listening(self.rows.of_mode(Mode.WAIT))
        self.waiting.serve([each for each in listening if each[1].fileno() not in taken])

    def _listening(self, services: Iterable[InstalledService]) -> list[tuple[InstalledService, socket.socket]]:
        return [(each, sock) for each in services for sock in self._sockets(each)]

    def _duties(self) -> Duties:
        def programs(mode: Mode) -> list[tuple[int, Program]]:
            return [(sock.fileno(), each.program) for each, sock in self._listening(self.rows.of_mode(mode))]

        return Duties(
            acceptors=self.options.acceptors,
            programs=programs(Mode.NOWAIT),
            builtins=programs(Mode.BUILTIN),
            tables={each.row: each.planned.access for each in self.rows if each.planned.access.asks_names},
            asks_itself=any(installed.planned.access.asks_names for installed in self.rows.of_mode(Mode.WAIT)),
            services=[info_of(installed, self._sockets(installed)) for installed in self.rows],
            unserved=self.rows.unserved,
            library=library() if any(has_zygotes(installed.planned.pool) for installed in self.rows) else -1,
            metrics=self.options.metrics.fileno() if self.options.metrics is not None else None,
            reader=self.reader,
            version=__version__,
        )

    def _sockets(self, installed: InstalledService) -> list[socket.socket]:
        return self.listeners.sockets_of_service(installed.planned)

    # ---- roles ----

    def _role_ended(self, role: Role, status: int) -> None:
        """Adopt what a role's process left behind."""
        if role.section is not None:
            crashed = role.spec.crashed(status)
            self.children.adopt(role.section, crashed=crashed, when_closed=lambda then: role.closed(self.loop, then))
            self.board.section_release(role.section)
        if status != 0:
            self.reopen.orphaned()
        self.children.reap()
        self.generations.role_ended()
        if role.retired and self.generations.serving is not None:
            self.parting.role_ended()
            starts = role.spec.accepts is Mode.NOWAIT
            if starts and not any(generation.accepts for generation in self.generations.retiring):
                self._hand_over()
                self.listeners.retry_now()

    # ---- records ----

    def _drained(self) -> None:
        self.parting.drained()
        self.status.retitle()

    # ---- what others see ----

    def _sources(self) -> Sources:
        """Whom a dump is asked of."""
        roles = [(role.title, role.pid) for each in self.generations for role, _ in each.roles.values()]
        return Sources(self.board, self.rows, self.listeners, self.waiting, self.journal, roles,
                       self.options.source, self.options.process_limit)

    def _dump(self) -> None:
        """SIGUSR1: write the state where an administrator of xinetd looks for it."""
        try:
            dump_state(self._sources(), self.options.dump_path)
        except OSError as error:
            self.messages.error(failure(self.options.dump_path, error))
        else:
            self.messages.info(f"generated state dump in file {self.options.dump_path}")

    def _check(self) -> None:
        """SIGABRT and -cc: compare the counts with the slots; after a difference count again."""
        check_counts(self.board, self.messages)

    def _check_again(self) -> None:
        """-cc: compare the counts from time to time."""
        self._check()
        self.loop.later(self.options.check_every, self._check_again)
