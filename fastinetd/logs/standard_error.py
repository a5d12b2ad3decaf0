"""What workers write to standard error is logged as messages of the daemon, each cause once.

Theory. A worker's descriptor 2 is a datagram socket, one for each service: a worker that writes never waits, and what
there is no room for is lost. It is no pipe, because the reader of a pipe waits for a writer that has the pipe's lock. A
service whose worker passes a descriptor along with a message is read no more (system/strangers). The worker may belong
to a user whom root does not trust, and a client may have sent what the message quotes. So root cuts a message, makes
text of it that cannot forge a line, and looks no further into it than for line ends. Tracebacks that differ in their
first and last line only (which names the error and the client) have one cause: the first is logged, and then once a
minute how many more came.

Rules of this file: root looks at a message once, logs so many lines a minute at most, and spends a fixed share of its
time on a flood of messages.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastinetd.system.descriptors import lift_socket
from fastinetd.system.loop import Loop, Timer
from fastinetd.system.strangers import close_message_channel, guard_channel, receive_message

MESSAGE_BYTES = 8192
"""Most bytes of a message; the kernel drops the rest."""

MESSAGE_LINES = 110
"""Most lines of a message that are logged: fastinetd.worker leaves out the middle of longer ones."""

CAUSES_PER_MINUTE = 20
"""Most causes of a service that are logged within a minute."""

MINUTE = 60.0

READ_AT_ONCE, READ_PAUSE = 32, 0.1
"""Messages of a service that are read within so many seconds, and then none for as long."""


@dataclass
class _Cause:
    """What several messages have in common."""

    first: str  # line of the message that was logged
    more: int = 0  # messages that were not logged


@dataclass(eq=False)
class _Channel:
    """Both ends of a service's socket, and what has come by it within a minute."""

    id: str
    reader: socket.socket
    writer: socket.socket
    causes: dict[tuple[str, ...], _Cause] = field(default_factory=dict)
    unlogged: int = 0  # messages of causes beyond CAUSES_PER_MINUTE
    since: float = 0.0  # when the first of the last `read` messages was read
    read: int = 0
    timer: Timer | None = None


class StandardErrors:
    """The standard error of all services' workers; `log` logs a line."""

    def __init__(self, loop: Loop, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._log = log
        self._channels: dict[int, _Channel] = {}

    def descriptor_for(self, row: int, id: str) -> int:
        """The descriptor that a service's workers get as 2 (borrowed; `close` closes it); -1: none can be had."""
        channel = self._channels.get(row)
        if channel is None:
            try:
                reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            except OSError:
                return -1
            guard_channel(reader)
            with reader, writer:  # where one of them cannot be lifted
                try:
                    channel = _Channel(id, lift_socket(reader), lift_socket(writer))
                except OSError:
                    return -1
            self._channels[row] = channel
            self._watch_reader(channel)
        channel.id = id
        return channel.writer.fileno()

    def close(self, row: int) -> None:
        """The row's service is gone, and so are its workers: log what is left of what they have written."""
        channel = self._channels.pop(row, None)
        if channel is None:
            return
        channel.read = 0
        self._read_messages(channel)
        self._log_summary(channel)
        if channel.timer is not None:
            channel.timer.cancel()
        self._loop.unwatch(channel.reader.fileno())
        close_message_channel(channel.reader)
        channel.writer.close()

    def close_all(self) -> None:
        """The daemon leaves: log what is left."""
        for row in list(self._channels):
            self.close(row)

    def _watch_reader(self, channel: _Channel) -> None:
        if channel in self._channels.values():
            self._loop.watch(channel.reader.fileno(), lambda _: self._read_messages(channel))

    def _read_messages(self, channel: _Channel) -> None:
        """Read what has come, up to READ_AT_ONCE messages."""
        now = self._clock()
        if now - channel.since > READ_PAUSE:
            channel.since, channel.read = now, 0
        while channel.read < READ_AT_ONCE:
            try:
                message = receive_message(channel.reader, MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._loop.unwatch(channel.reader.fileno())
                self._log(
                    f"service {channel.id}: a worker has sent a descriptor to its standard error: nothing that its "
                    "workers say is told before the daemon is started again; keep it from doing so"
                )
                return
            channel.read += 1
            self._log_message(channel, message)
        self._loop.unwatch(channel.reader.fileno())
        self._loop.later(READ_PAUSE, lambda: self._watch_reader(channel))

    def _log_message(self, channel: _Channel, message: bytes) -> None:
        """Log a message, or count it, if one of its cause was logged within a minute."""
        text = message.decode("utf-8", "backslashreplace")
        lines = [line for line in text.split("\n")[:MESSAGE_LINES] if line.strip()]
        if not lines:
            return
        key = tuple(lines[1:-1] or lines)
        cause = channel.causes.get(key)
        if cause is not None:
            cause.more += 1
        elif len(channel.causes) == CAUSES_PER_MINUTE:
            channel.unlogged += 1
        else:
            channel.causes[key] = _Cause(lines[0])
            for line in lines:
                self._log_line(channel, line)
        if channel.timer is None:
            channel.timer = self._loop.later(MINUTE, lambda: self._end_minute(channel))

    def _end_minute(self, channel: _Channel) -> None:
        """Log what was counted, and forget causes that have not come again."""
        channel.timer = None
        if self._log_summary(channel):
            channel.timer = self._loop.later(MINUTE, lambda: self._end_minute(channel))

    def _log_summary(self, channel: _Channel) -> bool:
        """Log how many messages of each cause came meanwhile; return whether any did."""
        channel.causes = {key: cause for key, cause in channel.causes.items() if cause.more}
        for cause in channel.causes.values():
            self._log_line(channel, f"{cause.more} more like this: {cause.first}")
            cause.more = 0
        if channel.unlogged:
            self._log_line(channel, f"{channel.unlogged} messages more than are told in a minute")
            channel.unlogged = 0
        return bool(channel.causes)

    def _log_line(self, channel: _Channel, line: str) -> None:
        self._log(f"service {channel.id}: a worker says: {line}")
