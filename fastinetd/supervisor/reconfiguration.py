"""The configuration file, read at the start and again at each reload; what it says is installed, or refused whole."""

from __future__ import annotations

from fastinetd.config.diagnostics import Report
from fastinetd.config.model import Config
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.service_log import ServiceLog
from fastinetd.plan.model import Plan
from fastinetd.plan.plan import MOST_SERVICES, forget_lookups, make_plan
from fastinetd.plan.surroundings import Surroundings
from fastinetd.services.installed import InstalledServices
from fastinetd.supervisor.generation import Generation, Unready
from fastinetd.supervisor.installation import Installation
from fastinetd.supervisor.options import Options
from fastinetd.supervisor.status import Status
from fastinetd.supervisor.succession import Succession
from fastinetd.system.allowances import explain_error


class Reconfiguration:
    """Reads the configuration, and decides whether it is installed."""

    def __init__(self, options: Options, messages: DaemonLog, surroundings: Surroundings, services: InstalledServices,
                 log: ServiceLog, succession: Succession, installation: Installation, status: Status) -> None:
        self._options = options
        self._messages = messages
        self._surroundings = surroundings
        self._services = services
        self._log = log
        self._succession = succession
        self._installation = installation
        self._status = status

    def read_first(self) -> Plan | None:
        """The plan of the configuration at the daemon's start; None when there is nothing to serve, with the reasons in
        the log. Raises OSError and MemoryError."""
        config, plan, report = self._read()
        self._messages.log_report(report)
        if config.fatal:
            self._messages.critical(f"{config.source} cannot be used; mend what is told above")
            return None
        if not plan.services and not self._options.stay_alive:
            self._messages.critical(f"{config.source} has no service that can be started; add one, or use -stayalive")
            return None
        return plan

    def reload(self) -> None:
        """Read the configuration again; install it if it can be used, keep everything as it is if not."""
        if (generation := self._succession.serving) is None:
            return
        self._messages.notice("Starting reconfiguration")
        self._status.reloading()
        try:
            self._load_again(generation)
        except (OSError, MemoryError, Unready) as error:
            why = str(error) if isinstance(error, Unready) else explain_error(error)
            self._messages.error(f"reconfiguration failed, the configuration in use is kept: {why}; then reload again")
        finally:  # whatever went wrong, the daemon serves, and the service manager hears so
            self._status.serving()

    def _load_again(self, generation: Generation) -> None:
        """Raises OSError, MemoryError and Unready, with everything as it was."""
        config, plan, report = self._read()
        self._messages.log_report(report)
        self._log.reopen()
        if (why := self._why_refused(config, plan, report.errors)) is not None:
            self._messages.error(f"reconfiguration failed{why}: the configuration in use is kept; mend {config.source}")
            return
        before, removed = len(self._services), 0
        if plan == self._installation.plan:
            generation.renew_pools()  # what their programs have read may have changed
        else:
            removed = self._installation.install(plan)
        self._status.loaded()
        kept = before - removed
        now = len(self._services)
        self._messages.notice(f"Reconfigured: new={now - kept} old={kept} dropped={removed} (services)")
        if not plan.services:
            self._messages.warning(f"{config.source} has no service, so nothing is served; add one, and reload again")

    def _read(self) -> tuple[Config, Plan, Report]:
        """The configuration as its file has it now, the plan made of it, and the diagnostics of both."""
        report = Report()
        forget_lookups()
        config = self._options.read(report)
        plan = Plan() if config.fatal else make_plan(config, self._surroundings, report)
        return config, plan, report

    def _why_refused(self, config: Config, plan: Plan, errors: int) -> str | None:
        """Why a configuration cannot take the place of the one in use; None when it can. One without services is
        refused if it has an error: without any, to have no service is what its author wants."""
        if config.fatal or (errors and not plan.services):
            return "" if config.fatal else ", with these errors nothing would be served"
        return None if self._services.room_for(plan) else f", it has more than {MOST_SERVICES} services"
