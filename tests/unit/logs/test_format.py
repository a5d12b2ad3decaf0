"""Another look of the log is another Formats: sinks, and what is logged, stay as they are. Here: lines of JSON."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from fastinetd.config.model import LogKind, LogType
from fastinetd.core.layout import REFUSALS, Field, RecordKind, Verdict
from fastinetd.core.records import JournalRecord
from fastinetd.logs.daemon_log import DaemonLog
from fastinetd.logs.format import Format, Formats, LoggedService
from fastinetd.logs.lines import Level
from fastinetd.logs.service_log import ServiceLog
from fastinetd.logs.sink import ENTRIES_KEPT, LONGEST_PAUSE
from support.logs import Clock

WHEN = 1_790_000_000.0


class JsonFormat(Format):
    def record(self, record: JournalRecord, service: LoggedService) -> str | None:
        if record.kind != RecordKind.FAIL or not record.fields & Field.SHOW_HOST:
            return None
        reason = REFUSALS[Verdict(record.reason)]
        return self._line(record.when, service=service.id, reason=reason, address=record.address, port=record.port)

    def message(self, when: float, level: Level, text: str) -> str:
        return self._line(when, level=level.name, text=text)

    def lost(self, when: float, count: int) -> str:
        return self._line(when, lost=count)

    def _line(self, when: float, **fields: Any) -> str:
        return json.dumps({"when": when, **fields}) + "\n"


class JsonFormats(Formats):
    def file(self) -> Format:
        return JsonFormat()

    def syslog(self, facility: str) -> Format:
        return JsonFormat()

    def stderr(self, journald: bool) -> JsonFormat:
        return JsonFormat()


def refused(port: int, row: int = 0) -> JournalRecord:
    return JournalRecord(WHEN, row, int(RecordKind.FAIL), int(Verdict.LOAD), 0, 0, False, 0, "192.0.2.7", port,
                       int(Field.SHOW_HOST))


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_records_messages_and_losses(tmp_path: Path, clock: Clock) -> None:
    log, own = tmp_path / "x.log", tmp_path / "daemon.log"
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "syslog"))
        syslog.settimeout(10)
        messages = DaemonLog(JsonFormats(), filelog=str(own), syslog="daemon", stderr=True, stderr_fd=writer,
                             syslog_path=str(tmp_path / "syslog"), environ={}, wall=lambda: WHEN, clock=clock)
        service_log = ServiceLog(messages, clock=clock)
        to_file = LogType(LogKind.FILE, path=str(log), hard_limit=200)
        service_log.configure({0: LoggedService("web", to_file), 1: LoggedService("mail", LogType(LogKind.SYSLOG))})
        service_log.write([refused(1), refused(2, row=1)])
        record = {"when": WHEN, "service": "web", "reason": "load", "address": "192.0.2.7", "port": 1}
        assert entries(log.read_text()) == [record]
        assert entries(syslog.recv(1000).decode()) == [{**record, "service": "mail", "port": 2}]
        messages.warning("hot")
        message = [{"when": WHEN, "level": "WARNING", "text": "hot"}]
        assert entries(own.read_text()) == message
        assert entries(syslog.recv(1000).decode()) == message
        assert entries(os.read(reader, 1000).decode()) == message
        service_log.write([refused(port) for port in range(ENTRIES_KEPT + 4)])  # two go to its limit, and two are lost
        log.unlink()
        clock.now += LONGEST_PAUSE
        messages.flush()
        messages.close()
    assert entries(log.read_text())[0] == {"when": WHEN, "lost": 2}
    for fd in (reader, writer):
        os.close(fd)
