"""What workers write to standard error: told in the daemon's own messages, each cause once.

Theory. A worker's descriptor 2 is a datagram socket, one for each service: whoever writes never waits, and what there
is no room for is lost. It is no pipe, whose reader waits for a writer that has the pipe's lock; and who passes a
descriptor with what he says is not heard again (strangers). A stranger may have written the message, or have sent what
is in it. So root cuts it, makes it text that cannot forge a line, and looks no further into it than for line ends. A
traceback that differs in its first and last line only (what was wrong with which client's) is one cause: it is told
once, and then how often it came, once a minute.

Rules of this file: a message costs root one look, a minute so many lines at most, a flood a fixed share of its time.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastinetd.system.descriptors import lifted
from fastinetd.system.loop import Loop, Timer
from fastinetd.system.strangers import close_words, guard, receive

BYTES = 8192
"""Of a message, at most; the kernel drops the rest."""

LINES = 110
"""Of a message, at most: fastinetd.worker leaves out what is in the middle of longer ones."""

CAUSES = 20
"""Of a service, told within a minute."""

MINUTE = 60.0

AT_ONCE, PAUSE = 32, 0.1
"""So many messages of a service are read within so many seconds, and then none for as many."""


@dataclass
class _Cause:
    first: str  # of its lines
    more: int = 0  # messages that were not told


@dataclass(eq=False)
class _Channel:
    """Both ends of a service's socket, and what has come by it lately."""

    id: str
    reader: socket.socket
    writer: socket.socket
    causes: dict[tuple[str, ...], _Cause] = field(default_factory=dict)
    left_out: int = 0
    since: float = 0.0  # `read` messages were read
    read: int = 0
    timer: Timer | None = None


class StandardErrors:
    """The standard error of all services' workers."""

    def __init__(self, loop: Loop, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._say = say
        self._channels: dict[int, _Channel] = {}

    def of(self, row: int, id: str) -> int:
        """The descriptor that a service's workers get as 2; borrowed, it is closed by `close`. -1: none can be had."""
        channel = self._channels.get(row)
        if channel is None:
            try:
                reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            except OSError:
                return -1
            guard(reader)
            with reader, writer:  # where one of them cannot be lifted
                try:
                    channel = _Channel(id, lifted(reader), lifted(writer))
                except OSError:
                    return -1
            self._channels[row] = channel
            self._watch(channel)
        channel.id = id
        return channel.writer.fileno()

    def close(self, row: int) -> None:
        """The row's service is gone, and so are its workers; what they have said is told."""
        channel = self._channels.pop(row, None)
        if channel is None:
            return
        channel.read = 0
        self._hear(channel)
        self._sum_up(channel)
        if channel.timer is not None:
            channel.timer.cancel()
        self._loop.unwatch(channel.reader.fileno())
        close_words(channel.reader)
        channel.writer.close()

    def finish(self) -> None:
        """The daemon leaves: tell what has not been told."""
        for row in list(self._channels):
            self.close(row)

    def _watch(self, channel: _Channel) -> None:
        if channel in self._channels.values():
            self._loop.watch(channel.reader.fileno(), lambda _: self._hear(channel))

    def _hear(self, channel: _Channel) -> None:
        now = self._clock()
        if now - channel.since > PAUSE:
            channel.since, channel.read = now, 0
        while channel.read < AT_ONCE:
            try:
                message = receive(channel.reader, BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._loop.unwatch(channel.reader.fileno())
                self._say(
                    f"service {channel.id}: a worker has sent a descriptor to its standard error: nothing that its "
                    "workers say is told before the daemon is started again; keep it from doing so"
                )
                return
            channel.read += 1
            self._take(channel, message)
        self._loop.unwatch(channel.reader.fileno())
        self._loop.later(PAUSE, lambda: self._watch(channel))

    def _take(self, channel: _Channel, message: bytes) -> None:
        text = message.decode("utf-8", "backslashreplace")
        lines = [line for line in text.split("\n")[:LINES] if line.strip()]
        if not lines:
            return
        key = tuple(lines[1:-1] or lines)
        cause = channel.causes.get(key)
        if cause is not None:
            cause.more += 1
        elif len(channel.causes) == CAUSES:
            channel.left_out += 1
        else:
            channel.causes[key] = _Cause(lines[0])
            for line in lines:
                self._tell(channel, line)
        if channel.timer is None:
            channel.timer = self._loop.later(MINUTE, lambda: self._minute(channel))

    def _minute(self, channel: _Channel) -> None:
        """Say what was not told, and forget what has not come again."""
        channel.timer = None
        if self._sum_up(channel):
            channel.timer = self._loop.later(MINUTE, lambda: self._minute(channel))

    def _sum_up(self, channel: _Channel) -> bool:
        """Returns whether something is still remembered."""
        channel.causes = {key: cause for key, cause in channel.causes.items() if cause.more}
        for cause in channel.causes.values():
            self._tell(channel, f"{cause.more} more like this: {cause.first}")
            cause.more = 0
        if channel.left_out:
            self._tell(channel, f"{channel.left_out} messages more than are told in a minute")
            channel.left_out = 0
        return bool(channel.causes)

    def _tell(self, channel: _Channel, line: str) -> None:
        self._say(f"service {channel.id}: a worker says: {line}")
