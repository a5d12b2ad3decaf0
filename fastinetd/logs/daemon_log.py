"""What the daemon logs about itself, as opposed to the records of its services.

Each message goes to every destination that is on: a file (-filelog), syslog (-syslog), standard error. None of them
can fail the caller: a message that cannot be written is kept, and lost in the end, as any other entry of a sink.
Where standard error and syslog both lead to journald, syslog gets a message only while standard error does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from fastinetd.config.diagnostics import Report, Severity
from fastinetd.logs.format import Formats
from fastinetd.logs.journald import is_journald_socket, is_journald_stream
from fastinetd.logs.lines import Level, printable_line
from fastinetd.logs.sink_table import SYSLOG_SOCKET, SinkTable

LEVEL_OF_SEVERITY = {Severity.ERROR: Level.ERROR, Severity.WARNING: Level.WARNING, Severity.NOTE: Level.INFO}
"""Severity of a diagnostic -> level of its message."""


class DaemonLog:
    """The daemon's own log. Its sinks are the ServiceLog's too; `wall` and `clock` are in seconds."""

    def __init__(
        self,
        formats: Formats,
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
        self._syslog = syslog is not None
        self._stderr = stderr
        self._debug = debug
        journald = is_journald_stream(stderr_fd, environ)
        self._both_journald = journald and is_journald_socket(syslog_path)
        self._file_format = formats.file()
        self._syslog_format = formats.syslog(syslog or "daemon")
        self._stderr_format = formats.stderr(journald)
        self.sinks = SinkTable(
            self.log,
            file_format=self._file_format,
            syslog_format=self._syslog_format,
            stderr_format=self._stderr_format,
            wall=wall,
            clock=clock,
            syslog_path=syslog_path,
            stderr_fd=stderr_fd,
        )
        if filelog is not None:
            self.sinks.file(filelog)

    def debug(self, text: str) -> None:
        """Log a line at the level DEBUG, if the daemon runs with -d."""
        if self._debug:
            self.log(Level.DEBUG, text)

    def info(self, text: str) -> None:
        """Log a line at the level INFO."""
        self.log(Level.INFO, text)

    def notice(self, text: str) -> None:
        """Log a line at the level NOTICE."""
        self.log(Level.NOTICE, text)

    def warning(self, text: str) -> None:
        """Log a line at the level WARNING."""
        self.log(Level.WARNING, text)

    def error(self, text: str) -> None:
        """Log a line at the level ERROR."""
        self.log(Level.ERROR, text)

    def critical(self, text: str) -> None:
        """Log a line at the level CRITICAL."""
        self.log(Level.CRITICAL, text)

    def log_report(self, report: Report) -> None:
        """Log what was found in a configuration."""
        for diagnostic in report:
            self.log(LEVEL_OF_SEVERITY[diagnostic.severity], f"{diagnostic.place}: {diagnostic.text}")
        if report.left_out:
            self.error(f"{report.left_out} of this configuration are not told")

    def log(self, level: Level, text: str) -> None:
        """Send one message to every destination that is on."""
        text, now = printable_line(text), self._wall()
        if self._filelog is not None:
            self.sinks.file(self._filelog).put([self._file_format.message(now, level, text)])
        # Where both lead to journald it is the stream that gets it: journald knows the unit of a stream, even of a
        # process that has ended by the time it reads.
        if self._syslog and not (self._stderr and self._both_journald):
            self.sinks.syslog.put([self._syslog_format.message(now, level, text)])
        if self._stderr:
            self.sinks.stderr.put([self._stderr_format.message(now, level, text)])

    def also_stderr(self, on: bool) -> None:
        """Switch standard error on or off (off when the daemon leaves its terminal)."""
        self._stderr = on

    @property
    def files(self) -> frozenset[str]:
        """The paths that messages go to."""
        return frozenset() if self._filelog is None else frozenset((self._filelog,))

    @property
    def lost(self) -> int:
        """Entries lost by any sink, records included."""
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
