"""All sinks of a process: one for each file, one for syslog, one for standard error, shared by all that is logged."""

from __future__ import annotations

import time
from collections.abc import Callable, Set

from fastinetd.config.model import LogKind, LogType
from fastinetd.logs.file_sink import FileSink
from fastinetd.logs.format import Format, MessageFormat
from fastinetd.logs.sink import Report, Sink
from fastinetd.logs.stderr_sink import StderrSink
from fastinetd.logs.syslog_sink import SyslogSink

SYSLOG_SOCKET = "/dev/log"


class SinkTable:
    """Makes each sink once. A sink opens when it is first used, a file when it is made."""

    def __init__(
        self,
        report: Report,
        *,
        file_format: Format,
        syslog_format: Format,
        stderr_format: MessageFormat,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        syslog_path: str = SYSLOG_SOCKET,
        stderr_fd: int = 2,
    ) -> None:
        """`report` is called with trouble of a sink; the formats make what a sink writes of its lost entries; `wall`
        and `clock` are in seconds."""
        self._report = report
        self._file_format = file_format
        self._syslog_format = syslog_format
        self._wall = wall
        self._clock = clock
        self._files: dict[str, FileSink] = {}
        self._lost_before = 0  # by sinks that are closed
        self.syslog = SyslogSink(syslog_path, clock, report, lambda count: syslog_format.lost(wall(), count))
        self.stderr = StderrSink(stderr_fd, clock, report, lambda count: stderr_format.lost(wall(), count))

    def file(self, path: str) -> FileSink:
        """The sink of a file, opened now if it is new."""
        sink = self._files.get(path)
        if sink is None:
            sink = FileSink(path, self._clock, self._report, self._note_in_file)
            self._files[path] = sink
            sink.open()
        return sink

    def _note_in_file(self, count: int) -> str:
        return self._file_format.lost(self._wall(), count)

    def destination(self, log_type: LogType) -> tuple[Sink, Format] | None:
        """Where the records of a service with this log_type go, and what makes entries of them there; None: nowhere."""
        match log_type.kind:
            case LogKind.FILE:
                return self.file(log_type.path), self._file_format
            case LogKind.SYSLOG:
                return self.syslog, self._syslog_format
            case LogKind.NONE:
                return None

    def keep_files(self, paths: Set[str]) -> None:
        """Close the files that are not in `paths`; what could not be written to them is lost."""
        for path in self._files.keys() - paths:
            sink = self._files.pop(path)
            sink.close()
            self._lost_before += sink.lost

    def reopen(self) -> None:
        """Open every file again by its name, and syslog's socket."""
        for sink in self._all_sinks():
            sink.reopen()

    def flush(self) -> float | None:
        """Write what is kept; return the seconds until the next call, None if nothing is kept."""
        waits = [wait for sink in self._all_sinks() if (wait := sink.flush()) is not None]
        return min(waits, default=None)

    def close(self) -> None:
        """Write what can be written now, and close everything."""
        for sink in self._all_sinks():
            sink.close()

    def descriptors(self) -> list[int]:
        """The descriptors in use (borrowed), for a role's process to close after its fork."""
        return [fd for sink in self._all_sinks() if (fd := sink.descriptor()) >= 0]

    @property
    def lost(self) -> int:
        """Entries that never got where they should have gone."""
        return self._lost_before + sum(sink.lost for sink in self._all_sinks())

    def _all_sinks(self) -> list[Sink]:
        return [*self._files.values(), self.syslog, self.stderr]
