"""The pid file: written when the daemon serves, and locked, so that no second daemon takes the first one's place.

Theory. Everybody may read the pid file, and who may read a file may lock it, for as long as he likes. So the lock is on
a file beside it, PIDFILE.lock, that only the daemon's user can open. It is fcntl's: it belongs to this process alone,
its forks do not have it, and the kernel gives it up whatever ends the process. A pid file whose lock is free is stale,
and is replaced. It is replaced and not written to, because it may be a link to something else.

Rules of this file: the lock's file is removed only by who has the lock, and a lock counts only if its file still has
its name; so two daemons never have two locks.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from fastinetd.cli.options import Refusal
from fastinetd.system.allowances import remedy_for
from fastinetd.system.descriptors import lift_descriptor

_ATTEMPTS = 100
"""Changes of the lock's file by others that are put up with."""


class PidFile:
    """A path that is the daemon's as long as it serves; without one, None, every method does nothing."""

    def __init__(self, path: Path | None) -> None:
        """Lock the path, put an empty file there. Raises Refusal if another daemon has it, or no file can be made."""
        self._path = path
        self._lock = self._descriptor = -1
        if path is None:
            return
        self._lock_path = path.with_name(f"{path.name}.lock")
        try:
            self._lock = self._claim()
            with suppress(FileNotFoundError):
                path.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = lift_descriptor(os.open(path, flags, 0o644))
        except (OSError, ValueError) as error:
            self._unlock()
            raise self._refusal(error) from None

    def __enter__(self) -> PidFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def write(self) -> None:
        """The daemon serves. Raises Refusal if that cannot be written down."""
        if self._path is None:
            return
        try:
            os.write(self._descriptor, b"%d\n" % os.getpid())
        except OSError as error:
            raise self._refusal(error) from None

    def release(self) -> None:
        """The daemon serves no more: remove the file, unless it is another's by now. The next one may begin, while this
        one waits for the end of its servers."""
        if self._path is None or self._descriptor < 0:
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), self._path.lstat()):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1
        self._unlock()

    def _claim(self) -> int:
        """The lock's descriptor, the caller's. Raises OSError, or Refusal when another daemon has the lock."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        for _ in range(_ATTEMPTS):
            try:
                descriptor = os.open(self._lock_path, flags, 0o600)
            except OSError:
                if not self._lock_path.is_symlink():
                    raise
                self._lock_path.unlink(missing_ok=True)
                continue
            descriptor = lift_descriptor(descriptor)  # before it is locked: the end of any descriptor ends the lock
            kept = False
            try:
                kept = self._take(descriptor)
            finally:
                if not kept:
                    os.close(descriptor)
            if kept:
                return descriptor
        raise OSError(0, f"{self._lock_path} is replaced again and again")

    def _take(self, descriptor: int) -> bool:
        """Lock what was opened; False if it is not what must be locked (any more)."""
        status = os.fstat(descriptor)
        private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        if not stat.S_ISREG(status.st_mode) or not private or status.st_nlink > 1:
            # Others can lock that, or it is another file by a second name. Another daemon may have replaced it by now.
            if self._has_its_name(status):
                self._lock_path.unlink(missing_ok=True)
            return False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode(errors="replace").strip()
            who = f"process {pid}" if pid else "one that is just starting"
            why = f"another daemon, {who}, has the pid file {self._path}"
            raise Refusal(f"{why}; end it first, or choose another place with -pidfile") from None
        if not self._has_its_name(status):
            return False
        os.truncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
        return True

    def _has_its_name(self, status: os.stat_result) -> bool:
        """Whether a file is still what the lock's path leads to."""
        try:
            return os.path.samestat(status, self._lock_path.lstat())
        except FileNotFoundError:
            return False

    def _unlock(self) -> None:
        if self._lock >= 0:
            with suppress(OSError):
                if self._has_its_name(os.fstat(self._lock)):
                    self._lock_path.unlink()
            os.close(self._lock)
            self._lock = -1

    def _refusal(self, error: OSError | ValueError) -> Refusal:
        why, remedy = (error.strerror, remedy_for(error.errno)) if isinstance(error, OSError) else (str(error), None)
        how = remedy or "choose another place with -pidfile"
        return Refusal(f"cannot write the pid file {self._path}: {why}; {how}")
