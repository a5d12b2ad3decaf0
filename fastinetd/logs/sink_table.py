"""All sinks of a process: one per file, one for syslog, one for standard error, shared by all that log."""

from __future__ import annotations

import time
from collections.abc import Callable, Set

from fastinetd.logs.file_sink import FileSink
from fastinetd.logs.lines import Level, file_stamp, lost_text
from fastinetd.logs.sinks import Report, Sink, StderrSink, SyslogSink

SYSLOG_SOCKET = "/dev/log"


class SinkTable:
    """Makes each sink once. A sink opens when it is first used, a file when it is made."""

    def __init__(
        self,
        report: Report,
        syslog_line: Callable[[Level, str], str],
        stderr_line: Callable[[Level, str], str],
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        syslog_path: str = SYSLOG_SOCKET,
        stderr_fd: int = 2,
    ) -> None:
        """`report` hears of trouble; `..._line` shapes a message for syslog, for standard error."""
        self._report = report
        self._wall = wall
        self._clock = clock
        self._files: dict[str, FileSink] = {}
        self._lost_before = 0  # by sinks that are gone
        self.syslog = SyslogSink(syslog_path, clock, report, lambda count: syslog_line(Level.WARNING, lost_text(count)))
        self.stderr = StderrSink(stderr_fd, clock, report, lambda count: stderr_line(Level.WARNING, lost_text(count)))

    def file(self, path: str) -> FileSink:
        """The sink of a file, opened now if it is new."""
        sink = self._files.get(path)
        if sink is None:
            sink = FileSink(path, self._clock, self._report, self._file_note)
            self._files[path] = sink
            sink.open()
        return sink

    def _file_note(self, count: int) -> str:
        return f"{file_stamp(self._wall())}: {lost_text(count)}\n"

    def keep_files(self, paths: Set[str]) -> None:
        """Close the files that are not in `paths`; what could not be written to them is lost."""
        for path in self._files.keys() - paths:
            sink = self._files.pop(path)
            sink.close()
            self._lost_before += sink.lost

    def reopen(self) -> None:
        """Open every file again by its name, and syslog's socket."""
        for sink in self._all():
            sink.reopen()

    def flush(self) -> float | None:
        """Write what is kept; return the seconds until the next call, None if nothing is kept."""
        waits = [wait for sink in self._all() if (wait := sink.flush()) is not None]
        return min(waits, default=None)

    def close(self) -> None:
        """Write what can be written now, and close everything."""
        for sink in self._all():
            sink.close()

    def descriptors(self) -> list[int]:
        """The descriptors in use (borrowed), for a role's process to close after its fork."""
        return [fd for sink in self._all() if (fd := sink.descriptor()) >= 0]

    @property
    def lost(self) -> int:
        """Lines that never got where they should have gone."""
        return self._lost_before + sum(sink.lost for sink in self._all())

    def _all(self) -> list[Sink]:
        return [*self._files.values(), self.syslog, self.stderr]
