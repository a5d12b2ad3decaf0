"""Records from the Board become xinetd's log lines, and go where each service's log_type says.

Theory. The supervisor drains the Board's rings and hands the records over in batches. One line is made per
record that its service asked for, collected per sink, and written with one call per file and batch
(`log_sinks` tells what happens when that fails). Time stamps are those of the records and made once per
second. What the daemon itself has to say about a record (a program that cannot be started, a service
switched off for a while) goes to the DaemonLog, at most once in REPEAT seconds per service and cause, with
the number of the others.

Rules of this file
 - A record's text is exactly xinetd's, nothing follows an address: fail2ban, logwatch and OSSEC read it.
 - A row keeps its last service until another one takes the row, so that servers that outlive a reload still
   get their EXIT record.
 - Nothing here raises for what a record holds or a sink does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fastinetd.config.model import LogKind, LogType
from fastinetd.core.board import RecordTuple
from fastinetd.core.layout import REFUSALS, Field, RecordKind
from fastinetd.logs.daemon_log import IDENT, DaemonLog
from fastinetd.logs.file_sink import FileSink
from fastinetd.logs.lines import Level, error_text, file_stamp, printable, priority, syslog_stamp
from fastinetd.logs.pool_events import news_of
from fastinetd.logs.sinks import Sink
from fastinetd.logs.start_failures import FORK_REMEDIES, start_failure

REPEAT = 10.0
"""Seconds in which a message about one service and cause is said once."""

NO_ADDRESS = "<no address>"

# Plain integers: comparing a record's number with an IntEnum's member costs several times as much.
_PID, _HOST = int(Field.SHOW_PID), int(Field.SHOW_HOST)
_EXIT, _DURATION = int(Field.SHOW_EXIT), int(Field.SHOW_DURATION)
_START, _EXITED, _FAIL = int(RecordKind.START), int(RecordKind.EXIT), int(RecordKind.FAIL)
_SPAWN_FAILED, _ACCEPT_FAILED = int(RecordKind.SPAWN_FAILED), int(RecordKind.ACCEPT_FAILED)
_DEACTIVATED, _POOL = int(RecordKind.DEACTIVATED), int(RecordKind.POOL)
_REFUSALS = {int(refusal): word for refusal, word in REFUSALS.items()}


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What the Journal must know of a row's service."""

    id: str
    log_type: LogType
    server: str = ""  # the program's path; "" for a built-in service


def format_record(record: RecordTuple, service_id: str) -> str | None:
    """xinetd's text of a record, or None where the service's log_on_success or log_on_failure asks for none.

    A failed start is a refusal for the reason `fork` when there was no process to be had, else `exec`.
    """
    _, _, kind, reason, pid, value, signalled, seconds, address, _, fields = record
    if not fields:
        return None
    if kind == _EXITED:
        if not fields & (_EXIT | _DURATION):
            return None
        status = (f" signal={value}" if signalled else f" status={value}") if fields & _EXIT else ""
        shown = f" pid={pid}" if fields & _PID else ""
        duration = f" duration={seconds}(sec)" if fields & _DURATION else ""
        return f"EXIT: {service_id}{status}{shown}{duration}"
    if fields & _HOST:
        source = f" from={address}" if address and address != "unix" else f" from={NO_ADDRESS}"
    else:
        source = ""
    if kind == _START:
        return f"START: {service_id} pid={pid}{source}" if fields & _PID else f"START: {service_id}{source}"
    if kind == _FAIL:
        return f"FAIL: {service_id} {_REFUSALS.get(reason, 'refused')}{source}"
    if kind == _SPAWN_FAILED:
        return f"FAIL: {service_id} {'fork' if value in FORK_REMEDIES else 'exec'}{source}"
    return None


def message_of(record: RecordTuple, entry: JournalEntry) -> str | None:
    """What the daemon itself says about a record (all of it errors), or None."""
    name, value = printable(entry.id), record.value
    if record.kind == _SPAWN_FAILED:
        return f"service {name}: {start_failure(entry.server, record.reason, value)}"
    if record.kind == _ACCEPT_FAILED:
        return f"service {name}: accept failed: {error_text(value)}"
    if record.kind == _DEACTIVATED:
        cause = "due to excessive incoming connections"
        return f"Deactivating service {name} {cause}.  Restarting in {value} seconds."
    return None


@dataclass(slots=True)
class _Target:
    """A row's service and where its lines go."""

    entry: JournalEntry
    id: str
    sink: Sink | None  # None: no records
    lines: list[str] | None  # the sink's batch, shared with other rows
    pri: int = -1  # of syslog; -1: a file


@dataclass(slots=True)
class _Repeats:
    """A message that was said a moment ago, and how often it has come up since."""

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
        self._batches: dict[Sink, list[str]] = {}
        self._repeats: dict[tuple[int, int, int], _Repeats] = {}
        self._second = -1
        self._file_stamp = self._syslog_stamp = ""
        self._news: set[tuple[int, int]] = set()  # (row, reason) that was told; each is told once
        self._unknown = 0
        self._stale = False  # some sink may have lost its last row

    def configure(self, services: Mapping[int, JournalEntry]) -> None:
        """Say which service each row is. Rows that are not named keep theirs until `forget`.

        Files are opened now; one that cannot be is reported, and written when it can be. Files that no row
        needs any more are closed.
        """
        limits: dict[str, list[LogType]] = {}
        for row, entry in services.items():
            self._targets[row] = self._target(entry)
            if entry.log_type.kind is LogKind.FILE:
                limits.setdefault(entry.log_type.path, []).append(entry.log_type)
        for path, kinds in limits.items():
            soft = [k.soft_limit for k in kinds if k.soft_limit is not None]
            hard = [k.hard_limit for k in kinds if k.hard_limit is not None]
            self._sinks.file(path).limit(min(soft, default=None), min(hard, default=None))
        self._drop_unused()

    def forget(self, row: int) -> None:
        """The row's service is gone and its servers have ended; its file is closed by the next `flush`."""
        self._stale |= self._targets.pop(row, None) is not None

    def write(self, records: Iterable[RecordTuple]) -> None:
        """Write a batch of records, oldest first."""
        targets = self._targets
        for record in records:
            target = targets.get(record.row)
            if target is None:
                self._unknown += 1
                continue
            lines = target.lines
            if lines is not None:
                text = format_record(record, target.id)
                if text is not None:
                    second = int(record.when)
                    if second != self._second:
                        self._stamp(second)
                    if target.pri < 0:
                        lines.append(f"{self._file_stamp}{text}\n")
                    else:
                        lines.append(f"<{target.pri}>{self._syslog_stamp}{text}")
            if record.kind == _POOL:
                self._tell_news(record, target.id)
            elif record.kind > _FAIL:
                self._tell(record, target.entry)
        for sink, batch in self._batches.items():
            if batch:
                sink.put(batch)
                batch.clear()

    def reopen(self) -> None:
        """The configuration is read again: open every log file anew, the daemon's own included, after a rotation; and
        tell anew what is told once."""
        self._news.clear()
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
                    self._say(repeats)
        waits = [r.until - now for r in self._repeats.values() if r.more]
        if (wait := self._sinks.flush()) is not None:
            waits.append(wait)
        return min(waits, default=None)

    def close(self) -> None:
        """Say what was held back; `DaemonLog.close` writes what is kept and closes the sinks."""
        for repeats in self._repeats.values():
            if repeats.more:
                self._say(repeats)

    @property
    def lost(self) -> int:
        """Records and messages that never got where they should have gone."""
        return self._sinks.lost + self._unknown

    def _target(self, entry: JournalEntry) -> _Target:
        kind = entry.log_type
        name = printable(entry.id)
        if kind.kind is LogKind.FILE:
            file = self._sinks.file(kind.path)
            return _Target(entry, name, file, self._batches.setdefault(file, []))
        if kind.kind is LogKind.SYSLOG:
            syslog = self._sinks.syslog
            batch = self._batches.setdefault(syslog, [])
            return _Target(entry, name, syslog, batch, priority(kind.facility, kind.level))
        return _Target(entry, name, None, None)

    def _drop_unused(self) -> None:
        self._stale = False
        used = {target.sink for target in self._targets.values()}
        self._batches = {sink: batch for sink, batch in self._batches.items() if sink in used}
        paths = {sink.path for sink in used if isinstance(sink, FileSink)}
        self._sinks.keep_files(paths | self._messages.files)

    def _stamp(self, second: int) -> None:
        self._second = second
        self._file_stamp = f"{file_stamp(second)}: "
        self._syslog_stamp = f"{syslog_stamp(second)} {IDENT}[{os.getpid()}]: "

    def _tell(self, record: RecordTuple, entry: JournalEntry) -> None:
        text = message_of(record, entry)
        if text is None:
            return
        key = (record.row, record.kind, record.value)
        now = self._clock()
        repeats = self._repeats.get(key)
        if repeats is not None and now < repeats.until:
            repeats.more += 1
            return
        if repeats is not None and repeats.more:
            self._say(repeats)
        self._repeats[key] = _Repeats(text, now + REPEAT)
        self._messages.say(Level.ERROR, text)

    def _tell_news(self, record: RecordTuple, name: str) -> None:
        """What has become of a pool: once, until the configuration is read again."""
        key = (record.row, record.reason)
        if key not in self._news:
            self._news.add(key)
            self._messages.say(*news_of(record, name))

    def _say(self, repeats: _Repeats) -> None:
        times = "once" if repeats.more == 1 else f"{repeats.more} times"
        self._messages.say(Level.ERROR, f"{repeats.text} [{times} more in {REPEAT:.0f} seconds]")
