"""The log as xinetd writes it.

    file                  YY/M/D@HH:MM:SS: RECORD
                          YY/M/D@HH:MM:SS xinetd[PID]: LEVEL: MESSAGE
    syslog                <PRI>Mon dd hh:mm:ss xinetd[PID]: RECORD or MESSAGE
    standard error        fastinetd: level: MESSAGE      without `level` for info and notice
    journald's stream     <SEVERITY>MESSAGE

Standard error is not xinetd's, which has none. It has no time: terminals need none, and container run-times add one.

Rules of this file
 - A record's text is exactly xinetd's, and nothing follows an address: fail2ban, logwatch and OSSEC read it.
 - A record's time stamp is made once a second: a busy daemon has thousands of records in one.
"""

from __future__ import annotations

import os
from functools import lru_cache

from fastinetd.core.layout import REFUSALS, Field, RecordKind
from fastinetd.core.records import JournalRecord
from fastinetd.logs.format import Format, Formats, LoggedService, MessageFormat
from fastinetd.logs.journald import with_priority
from fastinetd.logs.lines import Level, file_stamp, lost_text, syslog_priority, syslog_stamp
from fastinetd.logs.start_failures import FORK_REMEDIES

IDENT = "xinetd"
"""The program name in log lines: fail2ban, logwatch and OSSEC look for it."""

NO_ADDRESS = "<no address>"

# Plain integers: comparing a record's number with an IntEnum's member costs several times as much.
_PID, _HOST = int(Field.SHOW_PID), int(Field.SHOW_HOST)
_EXIT, _DURATION = int(Field.SHOW_EXIT), int(Field.SHOW_DURATION)
_START, _EXITED, _FAIL = int(RecordKind.START), int(RecordKind.EXIT), int(RecordKind.FAIL)
_SPAWN_FAILED = int(RecordKind.SPAWN_FAILED)
_REFUSALS = {int(refusal): word for refusal, word in REFUSALS.items()}


def record_text(record: JournalRecord, service_id: str) -> str | None:
    """xinetd's text of a record; None where log_on_success or log_on_failure of its service asks for none.

    A start that failed is a refusal for the reason `fork` where there was no process to be had, else `exec`.
    """
    fields, kind = record.fields, record.kind
    if not fields:
        return None
    if kind == _EXITED:
        return _exit_text(record, service_id, fields)
    source = f" from={_address_text(record.address)}" if fields & _HOST else ""
    if kind == _START:
        return f"START: {service_id} pid={record.pid}{source}" if fields & _PID else f"START: {service_id}{source}"
    if kind == _FAIL:
        return f"FAIL: {service_id} {_REFUSALS.get(record.reason, 'refused')}{source}"
    if kind == _SPAWN_FAILED:
        return f"FAIL: {service_id} {'fork' if record.value in FORK_REMEDIES else 'exec'}{source}"
    return None


def _exit_text(record: JournalRecord, service_id: str, fields: int) -> str | None:
    if not fields & (_EXIT | _DURATION):
        return None
    status = f" {'signal' if record.signalled else 'status'}={record.value}" if fields & _EXIT else ""
    pid = f" pid={record.pid}" if fields & _PID else ""
    duration = f" duration={record.seconds}(sec)" if fields & _DURATION else ""
    return f"EXIT: {service_id}{status}{pid}{duration}"


def _address_text(address: str) -> str:
    """A client's address; a client of a unix socket has none."""
    return address if address and address != "unix" else NO_ADDRESS


class _FileFormat(Format):
    """Lines of log files."""

    def __init__(self) -> None:
        self._stamp = lru_cache(maxsize=1)(file_stamp)

    def record(self, record: JournalRecord, service: LoggedService) -> str | None:
        text = record_text(record, service.id)
        return None if text is None else f"{self._stamp(int(record.when))}: {text}\n"

    def message(self, when: float, level: Level, text: str) -> str:
        return f"{file_stamp(when)} {IDENT}[{os.getpid()}]: {level.name}: {text}\n"

    def lost(self, when: float, count: int) -> str:
        return f"{file_stamp(when)}: {lost_text(count)}\n"


class _SyslogFormat(Format):
    """Datagrams for syslog (RFC 3164)."""

    def __init__(self, facility: str) -> None:
        self._facility = facility
        self._stamp = lru_cache(maxsize=1)(syslog_stamp)

    def record(self, record: JournalRecord, service: LoggedService) -> str | None:
        text = record_text(record, service.id)
        if text is None:
            return None
        number = syslog_priority(service.log_type.facility, service.log_type.level)
        return f"<{number}>{self._stamp(int(record.when))} {IDENT}[{os.getpid()}]: {text}"

    def message(self, when: float, level: Level, text: str) -> str:
        return f"<{syslog_priority(self._facility, level)}>{syslog_stamp(when)} {IDENT}[{os.getpid()}]: {text}"

    def lost(self, when: float, count: int) -> str:
        return self.message(when, Level.WARNING, lost_text(count))


class _StderrFormat(MessageFormat):
    """Lines of standard error, read by people."""

    def message(self, when: float, level: Level, text: str) -> str:
        word = "" if level in (Level.INFO, Level.NOTICE) else f"{level.name.lower()}: "
        return f"fastinetd: {word}{text}\n"

    def lost(self, when: float, count: int) -> str:
        return self.message(when, Level.WARNING, lost_text(count))


class _JournaldFormat(_StderrFormat):
    """Lines of standard error, read by journald."""

    def message(self, when: float, level: Level, text: str) -> str:
        return with_priority(level, f"{text}\n")


class XinetdFormats(Formats):
    """The log as xinetd writes it."""

    def file(self) -> Format:
        return _FileFormat()

    def syslog(self, facility: str) -> Format:
        return _SyslogFormat(facility)

    def stderr(self, journald: bool) -> MessageFormat:
        return _JournaldFormat() if journald else _StderrFormat()
