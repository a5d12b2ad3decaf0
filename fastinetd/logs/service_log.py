"""Records from the Board become entries of the logs that each service's log_type names.

Theory. The supervisor takes records off the Board's journals and hands them over in batches. One entry is made of each
record that its service asks for (a Format does that), collected for its sink, and written with one call per file and
batch (sink.py has what happens when that fails). What the daemon itself logs about a record (a program that cannot be
started, a service switched off for a while) goes to the DaemonLog, at most once in REPEAT_AFTER seconds per service and
cause, with the number of the others.

Rules of this file
 - A row keeps its last service until another one takes the row, so that servers that outlive a reload still get their
   EXIT record.
 - Nothing here raises for what a record holds or a sink does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from fastinetd.config.model import LogKind, LogType
from fastinetd.core.layout import RecordKind
from fastinetd.core.records import JournalRecord
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.file_sink import FileSink
from fastinetd.logs.format import Format, LoggedService
from fastinetd.logs.lines import error_text, printable_line
from fastinetd.logs.pool_events import pool_message
from fastinetd.logs.sink import Sink
from fastinetd.logs.start_failures import start_failure
from fastinetd.pools.pool import PoolEvent

REPEAT_AFTER = 10.0
"""Seconds in which a message about one service and cause is logged once."""

# Plain integers: comparing a record's number with an IntEnum's member costs several times as much.
_FAIL, _SPAWN_FAILED = int(RecordKind.FAIL), int(RecordKind.SPAWN_FAILED)
_ACCEPT_FAILED, _DEACTIVATED = int(RecordKind.ACCEPT_FAILED), int(RecordKind.DEACTIVATED)
_POOL = int(RecordKind.POOL)
_POOL_EVENTS = frozenset(map(int, PoolEvent))


def message_of(record: JournalRecord, service: LoggedService) -> str | None:
    """What the daemon itself logs about a record (all of it errors), or None."""
    name, value = service.id, record.value
    if record.kind == _SPAWN_FAILED:
        return f"service {name}: {start_failure(service.server, record.reason, value)}"
    if record.kind == _ACCEPT_FAILED:
        return f"service {name}: accept failed: {error_text(value)}"
    if record.kind == _DEACTIVATED:
        cause = "due to excessive incoming connections"
        return f"Deactivating service {name} {cause}.  Restarting in {value} seconds."
    return None


@dataclass(slots=True)
class _Batch:
    """What a sink is to write of the records at hand. Rows that log to one sink share it."""

    sink: Sink
    format: Format
    entries: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Target:
    """A row's service, and where its records go."""

    service: LoggedService
    batch: _Batch | None  # None: it wants no records


@dataclass(slots=True)
class _Repeats:
    """A message that was logged a moment ago, and how often it has come up since."""

    text: str
    until: float
    more: int = 0


class ServiceLog:
    """Writes the services' records. Shares the sinks of `messages`; `clock` is monotonic, in seconds."""

    def __init__(self, messages: DaemonLog, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._messages = messages
        self._sinks = messages.sinks
        self._clock = clock
        self._targets: dict[int, _Target] = {}
        self._batches: dict[Sink, _Batch] = {}
        self._repeats: dict[tuple[int, int, int], _Repeats] = {}
        self._pool_events: set[tuple[int, int]] = set()  # (row, reason) that was logged; each is logged once
        self._unknown = 0  # records of rows without a service, or of events that there are not
        self._stale = False  # some sink may have lost its last row

    def configure(self, services: Mapping[int, LoggedService]) -> None:
        """Set which service each row is. Rows that are not named keep theirs until `forget`.

        Files are opened now; one that cannot be is reported, and written when it can be. Files that no row needs any
        more are closed.
        """
        limits: dict[str, list[LogType]] = {}
        for row, service in services.items():
            named = replace(service, id=printable_line(service.id))
            self._targets[row] = _Target(named, self._batch_of(service.log_type))
            if service.log_type.kind is LogKind.FILE:
                limits.setdefault(service.log_type.path, []).append(service.log_type)
        for path, kinds in limits.items():
            soft = [k.soft_limit for k in kinds if k.soft_limit is not None]
            hard = [k.hard_limit for k in kinds if k.hard_limit is not None]
            self._sinks.file(path).limit(min(soft, default=None), min(hard, default=None))
        self._drop_unused()

    def forget(self, row: int) -> None:
        """The row's service is gone and its servers have ended; its file is closed by the next `flush`."""
        self._stale |= self._targets.pop(row, None) is not None

    def write(self, records: Iterable[JournalRecord]) -> None:
        """Write a batch of records, oldest first."""
        targets = self._targets
        for record in records:
            target = targets.get(record.row)
            if target is None or (record.kind == _POOL and record.reason not in _POOL_EVENTS):
                self._unknown += 1
                continue
            batch = target.batch
            if batch is not None and (entry := batch.format.record(record, target.service)) is not None:
                batch.entries.append(entry)
            if record.kind == _POOL:
                self._log_pool_event(record, target.service.id)
            elif record.kind > _FAIL:
                self._log_message(record, target.service)
        for batch in self._batches.values():
            if batch.entries:
                batch.sink.put(batch.entries)
                batch.entries.clear()

    def reopen(self) -> None:
        """Open every log file anew, the daemon's own included, and log events of pools again, each once. Files may have
        been rotated, and the configuration is read again."""
        self._pool_events.clear()
        self._sinks.reopen()

    def flush(self) -> float | None:
        """Write what is kept; return the seconds until the next call, None if nothing is waiting."""
        if self._stale:
            self._drop_unused()
        now = self._clock()
        for key, repeats in list(self._repeats.items()):
            if now >= repeats.until:
                del self._repeats[key]
                if repeats.more:
                    self._log_repeats(repeats)
        waits = [r.until - now for r in self._repeats.values() if r.more]
        if (wait := self._sinks.flush()) is not None:
            waits.append(wait)
        return min(waits, default=None)

    def close(self) -> None:
        """Log how often messages came up that were not logged again. `DaemonLog.close` writes what is kept, and closes
        the sinks."""
        for repeats in self._repeats.values():
            if repeats.more:
                self._log_repeats(repeats)

    @property
    def lost(self) -> int:
        """Records and messages that never got where they should have gone."""
        return self._sinks.lost + self._unknown

    def _batch_of(self, log_type: LogType) -> _Batch | None:
        """The batch of the sink that a log_type names."""
        destination = self._sinks.destination(log_type)
        if destination is None:
            return None
        sink, format = destination
        return self._batches.setdefault(sink, _Batch(sink, format))

    def _drop_unused(self) -> None:
        """Close files that no row logs to any more."""
        self._stale = False
        used = {target.batch.sink for target in self._targets.values() if target.batch is not None}
        self._batches = {sink: batch for sink, batch in self._batches.items() if sink in used}
        paths = {sink.path for sink in used if isinstance(sink, FileSink)}
        self._sinks.keep_files(paths | self._messages.files)

    def _log_message(self, record: JournalRecord, service: LoggedService) -> None:
        """Log what the daemon has to say about a record, unless it did a moment ago."""
        text = message_of(record, service)
        if text is None:
            return
        key = (record.row, record.kind, record.value)
        now = self._clock()
        repeats = self._repeats.get(key)
        if repeats is not None and now < repeats.until:
            repeats.more += 1
            return
        if repeats is not None and repeats.more:
            self._log_repeats(repeats)
        self._repeats[key] = _Repeats(text, now + REPEAT_AFTER)
        self._messages.error(text)

    def _log_pool_event(self, record: JournalRecord, service_id: str) -> None:
        """Log what has become of a pool: once, until the configuration is read again."""
        key = (record.row, record.reason)
        if key not in self._pool_events:
            self._pool_events.add(key)
            self._messages.log(*pool_message(record, service_id))

    def _log_repeats(self, repeats: _Repeats) -> None:
        times = "once" if repeats.more == 1 else f"{repeats.more} times"
        self._messages.error(f"{repeats.text} [{times} more in {REPEAT_AFTER:.0f} seconds]")
