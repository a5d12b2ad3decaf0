"""What the log looks like: a Format makes the entries of one destination (a file, syslog, standard error).

Theory. A Format is given what is logged as it was recorded: a record of the Board with its service, or a message with
its level. It makes an entry of that; a sink (sink.py) keeps, counts and writes entries, and looks into none. So another
look of the log, such as lines of JSON, is a file with one more Formats, which the command's options choose. A sink
whose entries have one shape whatever the look, such as the datagrams of journald's own protocol, has its Format in its
own file, and SinkTable pairs the two. Other sinks, and what is logged, stay as they are. A Format

 - returns whole entries, as their sink writes them: of a file, a line with its end; of syslog, a datagram;
 - shows of a record what its service asks for, `record.fields` (Field), and nothing of the client beyond that;
 - raises for nothing that a record holds: processes without privileges write records, so any number may be in them.

Texts and ids that a Format is given are one line already (lines.printable).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from fastinetd.config.model import LogType
from fastinetd.core.records import JournalRecord
from fastinetd.logs.lines import Level


@dataclass(frozen=True, slots=True)
class LoggedService:
    """What a log must know of a record's service."""

    id: str
    log_type: LogType
    server: str = ""  # the program's path; "" for a built-in service


class MessageFormat(ABC):
    """Makes the entries of a destination of messages of the daemon. `when` is Unix time, in seconds."""

    @abstractmethod
    def message(self, when: float, level: Level, text: str) -> str:
        """The entry of a message."""

    @abstractmethod
    def lost(self, when: float, count: int) -> str:
        """The entry that stands where `count` entries are missing."""


class Format(MessageFormat):
    """Makes the entries of a destination of records of services too."""

    @abstractmethod
    def record(self, record: JournalRecord, service: LoggedService) -> str | None:
        """The entry of a record; None where the service asks for none of it, or it is for the daemon alone."""


class Formats(ABC):
    """One look of the log: a Format for each destination."""

    @abstractmethod
    def file(self) -> Format:
        """For log files."""

    @abstractmethod
    def syslog(self, facility: str) -> Format:
        """For syslog; `facility` is that of messages, a record's is its service's."""

    @abstractmethod
    def stderr(self, journald: bool) -> MessageFormat:
        """For standard error; `journald`: that is journald's stream."""
