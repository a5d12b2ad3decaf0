"""A log file: lines are appended to it; it may be rotated meanwhile, deleted, filled up, or never be there at all.

Theory. The file is opened when the sink is made and again on demand: by `reopen` (the operator has renamed it), when it
has been deleted, and after every failure to open it. A write may end in the middle of a line (no space left). That line
counts as done, and what is missing of it is written before anything else: just the rest when the file still ends where
that write did, a line end and the whole line when another process wrote after it, the whole line when it is another
file by now. So no line of this sink ever runs into another one.

A hard limit is treated as a full disk: nothing more is written until the file is rotated or made smaller.

Rules of this file
 - Symbolic links are followed, as xinetd does: /var/log may be one, and /dev/stdout is (paths.py). A log's folder must
   belong to the user of the daemon; a service's log in a folder where others may create files is a mistake of the
   operator.
 - The file is opened non-blocking, so that a FIFO without a reader is trouble like any other. A hanging network file
   system still blocks: write(2) on a regular file cannot be told not to.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence

from fastinetd.logs.lines import Level, error_text
from fastinetd.logs.paths import copy_descriptor, descriptor_trouble, leads_nowhere, own_descriptor
from fastinetd.logs.sink import Report, Sink, utf8_of, write_without_waiting

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o644  # xinetd's
_LOOK_EVERY = 1.0  # seconds between two looks at whether the file is still there, and how large


class FileSink(Sink):
    """One log file; all services and the daemon itself share the sink of a path."""

    def __init__(self, path: str, clock: Callable[[], float], report: Report, note: Callable[[int], str]) -> None:
        super().__init__(f"log file {path}", clock, report, note)
        self.path = path
        self._fd = -1
        self._shared = False  # it is a copy of a descriptor that other processes have
        self._nowhere_reported = False
        self._regular = False
        self._identity = (0, 0)
        self._size = 0  # of a regular file, in bytes, when last looked at, and what was written since
        self._looked = 0.0
        self._soft: int | None = None
        self._hard: int | None = None
        self._soft_reported = False
        self._cut = b""  # the whole line of which only the first _cut_at bytes are in the file
        self._cut_at = 0
        self._cut_end: tuple[tuple[int, int], int] = ((0, 0), 0)  # the file and its size after the cut

    def limit(self, soft: int | None, hard: int | None) -> None:
        """Set the sizes in bytes at which to warn and to stop; None: never."""
        self._soft, self._hard = soft, hard
        self._soft_reported = False
        self._due = 0.0

    def open(self) -> None:
        """Open the file now, so that a bad path is reported at once."""
        if self._fd < 0:
            try:
                self._open_file()
            except OSError as error:
                self._begin_pause(error)
            self._send_reports()

    def descriptor(self) -> int:
        return self._fd

    def reopen(self) -> None:
        """Open the path again, and close the old file; it stays in use if that fails, as long as it has a name."""
        try:
            self._open_file()
        except OSError as error:
            if self._fd >= 0 and os.fstat(self._fd).st_nlink:
                why = error_text(error.errno)
                text = f"cannot open {self.name} again: {why}; the one opened before stays in use"
                self._keep_report(Level.ERROR, text)
            else:
                self._close_file()
                self._begin_pause(error)
            self._send_reports()
        else:
            self._due = 0.0
            self.flush()

    def close(self) -> None:
        super().close()
        self._close_file()

    def _open_file(self) -> None:
        """Open the path in place of what is open; raises OSError, with that still open."""
        copy = None
        if (own_descriptor(self.path) or 0) > 2:
            # It was closed at the start; what has its number by now is another file of the daemon.
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            fd = os.open(self.path, _FLAGS, _MODE)
        except OSError:
            copy = copy_descriptor(self.path)
            if copy is None:
                raise
            fd = copy
        self._close_file()
        self._fd, self._shared = fd, copy is not None
        self._look_at_file()
        self._soft_reported = False
        if not self._nowhere_reported and own_descriptor(self.path) is not None and leads_nowhere(fd):
            self._nowhere_reported = True
            text = f"{self.name} is /dev/null, as it always is in the background: nothing is kept; "
            self._keep_report(Level.WARNING, text + "use -dontfork, or another log")

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _look_at_file(self) -> bool:
        """Learn what the descriptor is now; False if the file has been deleted."""
        status = os.fstat(self._fd)
        self._looked = self._clock()
        self._regular = stat.S_ISREG(status.st_mode)
        self._identity = (status.st_dev, status.st_ino)
        self._size = status.st_size if self._regular else 0
        return not self._regular or status.st_nlink > 0

    def _must_look(self) -> bool:
        """Whether the file may be another one than it was, or have another size."""
        return bool(self._cut) or self._at_limit() or self._clock() - self._looked >= _LOOK_EVERY

    def _unfinished(self) -> bool:
        return bool(self._cut)

    def _reason(self, error: OSError) -> str:
        if error.errno == errno.EFBIG and self._at_limit():
            return f"it has reached its hard limit of {self._hard} bytes"
        trouble = descriptor_trouble(self.path)
        return f"{super()._reason(error)}: {trouble}" if trouble else super()._reason(error)

    def _remedy(self, error: OSError) -> str:
        return "make its folder; " if error.errno == errno.ENOENT else ""

    def _at_limit(self) -> bool:
        """Whether the file has reached its hard limit."""
        return self._hard is not None and self._regular and self._size >= self._hard

    def _write(self, entries: Sequence[str]) -> int:
        if self._fd < 0 or (self._must_look() and not self._look_at_file()):
            self._open_file()
        if self._at_limit():
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        data = utf8_of("".join(entries))
        if self._hard is not None and self._regular and self._size + len(data) > self._hard:
            entries = self._up_to_limit(entries, self._hard)
            data = utf8_of("".join(entries))
        head = self._missing()
        # A descriptor that other processes have too is not made non-blocking.
        written = (write_without_waiting if self._shared else os.write)(self._fd, head + data)
        if self._regular:
            self._size += written
        if written == len(head) + len(data):
            self._cut = b""
            self._warn_if_large()
            return len(entries)
        return self._account(head, entries, written)

    def _up_to_limit(self, lines: Sequence[str], hard: int) -> Sequence[str]:
        """The lines with which the file reaches its hard limit (xinetd completes the last one, too)."""
        size = self._size
        for i, line in enumerate(lines):
            if size >= hard:
                return lines[:i]
            size += len(utf8_of(line))
        return lines

    def _missing(self) -> bytes:
        """What must be written before the next line, after an earlier write ended inside one."""
        if not self._cut:
            return b""
        identity, size = self._cut_end
        if identity != self._identity:
            self._cut_at = 0
        elif self._regular and self._size != size:
            self._cut_at = 0
            return b"\n" + self._cut
        return self._cut[self._cut_at :]

    def _account(self, head: bytes, lines: Sequence[str], written: int) -> int:
        """Remember where a short write ended; return how many lines are done, the cut one included."""
        done = 0
        if written < len(head):
            self._cut_at = max(0, len(self._cut) - len(head) + written)
        else:
            self._cut = b""
            left = written - len(head)
            while left > 0:
                line = utf8_of(lines[done])
                done += 1
                if left < len(line):
                    self._cut, self._cut_at = line, left
                left -= len(line)
        self._cut_end = (self._identity, self._size)
        return done

    def _warn_if_large(self) -> None:
        if self._soft is not None and self._size >= self._soft and not self._soft_reported:
            self._soft_reported = True
            self._keep_report(Level.WARNING, f"{self.name} has reached its soft limit of {self._soft} bytes")
