"""The command `fastinetd`: options, --check, --demo, start.

Rules of this file: an error ends the command with one line on standard error, which has the remedy, and status 1.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fastinetd.cli import demo
from fastinetd.cli.background import Launch, must_stay, prepare_descriptors
from fastinetd.cli.options import DEFAULT_FILES, INETD_CONF, Refusal, parse_address, parse_options
from fastinetd.cli.pidfile import PidFile
from fastinetd.config.diagnostics import Report
from fastinetd.config.load import load_config
from fastinetd.config.model import Config, Place
from fastinetd.core.spawn import clone_is_allowed
from fastinetd.logs.daemon_log import LEVEL_OF_SEVERITY, DaemonLog
from fastinetd.logs.journald import stream_line
from fastinetd.logs.lines import FACILITIES, Level, printable_line
from fastinetd.logs.paths import locate_logs, trouble_with
from fastinetd.plan.access import check_names
from fastinetd.plan.endpoints import check_hosts
from fastinetd.plan.plan import make_plan
from fastinetd.plan.surroundings import Surroundings
from fastinetd.supervisor.options import Options
from fastinetd.supervisor.signals import postpone_signals
from fastinetd.supervisor.supervisor import Supervisor
from fastinetd.system import allowances
from fastinetd.system import own_process as launcher
from fastinetd.system.descriptors import lift_socket
from fastinetd.system.loop import describe_error
from fastinetd.system.requirements import unmet_requirement

_NO_INETD = {"xinetd": "an xinetd.conf", "toml": "TOML"}
"""Kind of a configuration that is no inetd.conf -> its name in messages."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options, warnings = parse_options(sys.argv[1:] if arguments is None else arguments)
    try:
        if options.check:
            return _check_configuration(options, warnings)
        return _serve_clients(options, warnings)
    except Refusal as refusal:
        print(stream_line(2, Level.CRITICAL, f"fastinetd: {refusal}"), file=sys.stderr)
    except (OSError, MemoryError) as error:
        print(stream_line(2, Level.CRITICAL, f"fastinetd: {allowances.explain_error(error)}"), file=sys.stderr)
    return 1


def _find_source(options: argparse.Namespace) -> tuple[str, str]:
    """Path and kind of the configuration. Raises Refusal when there is none."""
    if options.demo:
        return "--demo", "demo"
    if options.inetd:
        return os.path.abspath(options.inetd), "inetd"
    if options.file:
        return os.path.abspath(options.file), "auto"
    for place, kind in DEFAULT_FILES:
        if os.path.exists(place):
            return place, kind
    looked = ", ".join(place for place, _ in DEFAULT_FILES)
    raise Refusal(f"no configuration: looked for {looked}; write one of them, name one with -f FILE or --inetd FILE, "
                  "or try --demo")


def _make_reader(options: argparse.Namespace, path: str, kind: str) -> Callable[[Report], Config]:
    """The function that reads the configuration, now and at each reload; errors go to its Report."""
    if kind == "demo":
        config = demo.make_configuration()
        return lambda report: config
    compat = INETD_CONF if options.inetd_compat else None
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:  # the current folder has been removed
        folder = "/"

    def read(report: Report) -> Config:
        """The Config of the files as they are now."""
        config = load_config(path, kind=kind, dialect=options.dialect or "debian", report=report, inetd_compat=compat,
                      keep_environment=options.keep_environment)
        if config.kind in _NO_INETD:
            for option, remedy in _unused_options(options, config.kind):
                report.add("option-unused", Place(path, 1), option=option, kind=_NO_INETD[config.kind], remedy=remedy)
        return locate_logs(config, folder, report)

    return read


def _unused_options(options: argparse.Namespace, kind: str) -> Iterator[tuple[str, str]]:
    """(option, remedy) for each option that has no effect because the configuration is no inetd.conf."""
    remedy = "name an inetd.conf with --inetd FILE, or remove the option"
    beside = options.inetd_compat and kind == "xinetd"  # an inetd.conf is read as well
    if options.dialect and not beside:
        yield f"--dialect {options.dialect}", remedy
    if options.keep_environment:
        yield "-E", remedy
    if options.inetd_compat and not beside:
        yield "-inetd_compat", "name an xinetd.conf with -f FILE, or remove the option"


def _check_configuration(options: argparse.Namespace, warnings: list[str]) -> int:
    """Run --check: print each diagnostic as file:line:column: severity: message; returns the exit status."""
    path, kind = _find_source(options)
    _check_options(options)
    if options.filelog and (why := trouble_with(os.path.abspath(options.filelog))):
        warnings = [*warnings, f"-filelog {options.filelog}: {why}"]
    report = Report(differences=True)
    config = _make_reader(options, path, kind)(report)
    plan = make_plan(config, Surroundings(), report)
    check_hosts((*config.services, *config.broken), report)
    check_names((*config.services, *config.broken), report)
    for left in config.disabled:
        report.add("disabled", left.place, service=left.id, how=left.how)
    lines = [(Level.WARNING, f"fastinetd: warning: {warning}") for warning in (*warnings, *launcher.shortcomings())]
    lines += ((LEVEL_OF_SEVERITY[each.severity], str(each)) for each in
              sorted(report, key=lambda d: (d.place.file, d.place.line, d.place.column)))
    if report.left_out:
        lines.append((Level.ERROR, f"{path}: {report.left_out}, not shown"))
    unable = unmet_requirement()
    if unable is not None:
        lines.append((Level.ERROR, f"fastinetd: error: {unable}"))
    count = 0 if config.fatal or unable else len(plan.services)
    idle = not count and not unable and not _stays_alive(options)
    bad = bool(report.errors or config.fatal or idle or unable)
    last = (f"{path}: {count} service{'' if count == 1 else 's'} can be started, "
            f"{report.errors} error{'' if report.errors == 1 else 's'}")
    if config.fatal:
        last += "; with these errors nothing of it is used"
    elif idle:
        last += "; without any service fastinetd starts only with -stayalive or -dontfork: add one, or use these"
    _print_lines([*lines, (Level.ERROR if bad else Level.INFO, last)])
    return 1 if bad else 0


def _print_lines(lines: Iterable[tuple[Level, str]]) -> None:
    """Print the lines of --check on standard output, with their level if that is systemd's journal. Raises Refusal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have what a terminal's encoding has not
    try:
        print(*(stream_line(1, level, printable_line(text)) for level, text in lines), sep="\n", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries, and tells of it, once more
        raise Refusal(f"cannot write what was found: {error.strerror}") from None


def _stays_alive(options: argparse.Namespace) -> bool:
    """Whether the daemon runs without any service: with -stayalive and, as in xinetd, with -dontfork."""
    return bool(options.stay_alive or options.foreground)


def _check_options(options: argparse.Namespace) -> None:
    """Raise Refusal for a bad value of an option."""
    if options.syslog and options.syslog not in FACILITIES:
        raise Refusal(f"there is no syslog facility {options.syslog!r}; write one of: {', '.join(sorted(FACILITIES))}")
    if options.metrics:
        _parse_metrics(options.metrics)


def _parse_metrics(text: str) -> tuple[str | None, int]:
    """Host, None for every address, and port of --metrics. Raises Refusal."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise Refusal(f"--metrics {text}: {error}") from None


def _serve_clients(options: argparse.Namespace, warnings: list[str]) -> int:
    """Run the daemon, in the background unless it must stay; returns the exit status. Raises Refusal."""
    _check_options(options)
    path, kind = _find_source(options)
    foreground = options.foreground or options.debug or options.demo or must_stay(os.environ)
    if (why := unmet_requirement()) is not None:
        raise Refusal(why)
    try:
        prepare_descriptors()
    except OSError as error:
        why = allowances.explain_error(error)
        raise Refusal(f"cannot open /dev/null: {why}; make it: mknod -m 666 /dev/null c 1 3") from None
    try:
        launch = Launch(background=not foreground)
    except OSError as error:
        raise Refusal(f"cannot go into the background: {allowances.explain_error(error)}") from None
    if launch.parent:
        return launch.wait()
    postpone_signals()
    surroundings = Surroundings(clone=clone_is_allowed())  # before the limit is raised: servers get the original
    allowances.raise_descriptor_limit()
    messages = DaemonLog(
        options.formats(),
        filelog=os.path.abspath(options.filelog) if options.filelog else None,
        syslog=options.syslog or (None if foreground or options.filelog else "daemon"),
        stderr=True,  # until the daemon serves
        stderr_fd=launch.errors,
        debug=options.debug,
    )
    try:
        status = _run_supervisor(options, warnings, path, kind, messages, surroundings, launch, foreground)
    except Refusal as refusal:
        messages.critical(str(refusal))
        status = 1
    except (OSError, MemoryError) as error:
        messages.critical(allowances.explain_error(error))
        status = 1
    except KeyboardInterrupt:  # from the terminal, or from Launch.wait in the command
        messages.critical("interrupted, the start is given up")
        status = 128 + signal.SIGINT
    except Exception as error:
        messages.critical(f"{describe_error(error)}: a fault in fastinetd, please report it")
        status = 1
    messages.close()
    launch.failed(status)
    return status


def _run_supervisor(options: argparse.Namespace, warnings: list[str], path: str, kind: str, messages: DaemonLog,
         surroundings: Surroundings, launch: Launch, foreground: bool) -> int:
    """Start the supervisor and run it until the daemon ends; returns the exit status. Raises Refusal and OSError."""
    for warning in (*warnings, *launcher.shortcomings(), *allowances.warnings()):
        messages.warning(warning)
    reader = _make_reader(options, path, kind)
    os.umask(os.umask(0o022) | 0o022)  # never writable for others, and no more than was allowed at the start
    with PidFile(Path(options.pidfile).absolute() if options.pidfile else None) as pidfile:
        metrics = _listen_for_metrics(options.metrics) if options.metrics else None
        os.chdir("/")
        supervisor = Supervisor(
            Options(
                read=reader,
                source=path,
                acceptors=options.acceptors or min(32, len(os.sched_getaffinity(0)) + 1),
                metrics=metrics,
                process_limit=options.limit,
                stay_alive=_stays_alive(options),
                check_every=float(options.check_every),
                stopping=pidfile.release,
            ),
            messages,
            surroundings,
        )
        if kind != "demo":
            messages.info(f"reading {path}")
        if not supervisor.start():
            return 1
        pidfile.write()
        if options.demo:
            address = metrics.getsockname()[:2] if metrics is not None else None
            print(demo.instructions(reader(Report()), address), flush=True)
        if not foreground or options.filelog or options.syslog:
            messages.also_stderr(options.debug)
        launch.ready()
        supervisor.run()
    return 0


def _listen_for_metrics(text: str) -> socket.socket:
    """The listener of --metrics, on the address that is named or on all of both families. Raises Refusal."""
    host, port = _parse_metrics(text)
    try:
        if host is None:
            made = _listen_everywhere(port)
        else:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            made = socket.create_server(address[:2], family=family, backlog=128)
    except socket.gaierror as error:
        raise Refusal(f"--metrics {text}: cannot listen: {error.strerror}; name an address of this machine") from None
    except OSError as error:  # create_server puts the address into the text
        why = f"{os.strerror(error.errno or 0)} ({errno.errorcode.get(error.errno or 0, error.errno)})"
        raise Refusal(f"--metrics {text}: cannot listen: {why}; choose another address or port") from None
    made.setblocking(False)
    return lift_socket(made)


def _listen_everywhere(port: int) -> socket.socket:
    """A listener on all addresses, of IPv6 too if the kernel has it. Raises OSError."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
    return socket.create_server(("", port), backlog=128)
