"""What the daemon says about itself, as opposed to the records of its services.

Each message goes to every destination that is on: a file (-filelog), syslog (-syslog), standard error. None
of them can fail the caller: a message that cannot be written is kept, and lost in the end, as any other
line of a sink.

    -filelog    YY/M/D@HH:MM:SS xinetd[PID]: LEVEL: TEXT
    -syslog     <PRI>Mon dd hh:mm:ss xinetd[PID]: TEXT
    stderr      fastinetd: level: TEXT        without `level` for info and notice; without time: terminals
    need none, container run-times add their own journald    <SEVERITY>TEXT                when standard
    error is systemd-journald's stream (sd-daemon(3)); syslog, if that is journald's too, has to be told only when
    standard error is not
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from fastinetd.config.diagnostics import Report, Severity
from fastinetd.logs.lines import Level, file_stamp, printable, priority, syslog_stamp
from fastinetd.logs.sink_table import SYSLOG_SOCKET, SinkTable

IDENT = "xinetd"
"""The program name in log lines: fail2ban, logwatch and OSSEC look for it."""


JOURNAL = "/run/systemd/journal/"
"""Where journald has its sockets."""

LEVELS = {Severity.ERROR: Level.ERROR, Severity.WARNING: Level.WARNING, Severity.NOTE: Level.INFO}
"""How grave what is found in a configuration is."""


def is_journal(environ: Mapping[str, str], fd: int) -> bool:
    """Whether `fd` is the journald stream that JOURNAL_STREAM (systemd.exec(5)) names by device and inode."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def is_journals(path: str) -> bool:
    """Whether journald reads what is sent to this socket, which is then a link into its folder."""
    return os.path.realpath(path).startswith(JOURNAL)


def stream_line(fd: int, level: Level, text: str, environ: Mapping[str, str] = os.environ) -> str:
    """A line for standard output or error; in journald's stream it begins with its priority (sd-daemon(3))."""
    return f"<{int(level)}>{text}" if is_journal(environ, fd) else text


class DaemonLog:
    """The daemon's own log. `sinks` is shared with the Journal; `wall` and `clock` are in seconds."""

    def __init__(
        self,
        *,
        filelog: str | None = None,
        syslog: str | None = None,
        stderr: bool = False,
        debug: bool = False,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        environ: Mapping[str, str] = os.environ,
        syslog_path: str = SYSLOG_SOCKET,
        stderr_fd: int = 2,
    ) -> None:
        """`filelog` is a path, `syslog` a facility; debug messages are dropped unless `debug`."""
        self._wall = wall
        self._filelog = filelog
        self._facility = syslog
        self._stderr = stderr
        self._debug = debug
        self._journald = is_journal(environ, stderr_fd)
        self._same = self._journald and is_journals(syslog_path)  # where both are on, both lead there
        self.sinks = SinkTable(
            self.say, self._syslog_line, self._stderr_line,
            wall=wall, clock=clock, syslog_path=syslog_path, stderr_fd=stderr_fd,
        )  # fmt: skip
        if filelog is not None:
            self.sinks.file(filelog)

    def debug(self, text: str) -> None:
        if self._debug:
            self.say(Level.DEBUG, text)

    def info(self, text: str) -> None:
        self.say(Level.INFO, text)

    def notice(self, text: str) -> None:
        self.say(Level.NOTICE, text)

    def warning(self, text: str) -> None:
        self.say(Level.WARNING, text)

    def error(self, text: str) -> None:
        self.say(Level.ERROR, text)

    def critical(self, text: str) -> None:
        self.say(Level.CRITICAL, text)

    def tell(self, report: Report) -> None:
        """What a configuration has met with."""
        for diagnostic in report:
            self.say(LEVELS[diagnostic.severity], f"{diagnostic.place}: {diagnostic.text}")
        if report.left_out:
            self.error(f"{report.left_out} of this configuration are not told")

    def say(self, level: Level, text: str) -> None:
        """Send one message to every destination that is on."""
        text = printable(text)
        if self._filelog is not None:
            stamp = file_stamp(self._wall())
            self.sinks.file(self._filelog).put([f"{stamp} {IDENT}[{os.getpid()}]: {level.name}: {text}\n"])
        if self._facility is not None and not (self._stderr and self._same):  # the stream knows its unit, whoever ends
            self.sinks.syslog.put([self._syslog_line(level, text)])
        if self._stderr:
            self.sinks.stderr.put([self._stderr_line(level, text)])

    def also_stderr(self, on: bool) -> None:
        """Switch standard error on or off (off when the daemon leaves its terminal)."""
        self._stderr = on

    @property
    def files(self) -> frozenset[str]:
        """The paths that messages go to."""
        return frozenset() if self._filelog is None else frozenset((self._filelog,))

    @property
    def lost(self) -> int:
        """Lines lost by any sink, records included."""
        return self.sinks.lost

    def reopen(self) -> None:
        """Open files and syslog again, those of the records included."""
        self.sinks.reopen()

    def flush(self) -> float | None:
        """Write what is kept; return the seconds until the next call, None if nothing is kept."""
        return self.sinks.flush()

    def close(self) -> None:
        """Write what can be written now, and close everything."""
        self.sinks.close()

    def _syslog_line(self, level: Level, text: str) -> str:
        pri = priority(self._facility or "daemon", level)
        return f"<{pri}>{syslog_stamp(self._wall())} {IDENT}[{os.getpid()}]: {text}"

    def _stderr_line(self, level: Level, text: str) -> str:
        if self._journald:
            return f"<{int(level)}>{text}\n"
        word = "" if level in (Level.INFO, Level.NOTICE) else f"{level.name.lower()}: "
        return f"fastinetd: {word}{text}\n"
