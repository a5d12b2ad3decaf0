"""The pid file: written when the daemon serves, and locked, so that no second daemon takes the first one's place.

Theory. Every user may read the pid file, and a user who may read a file may lock it for any time. So the lock is on a
file beside it, PIDFILE.lock, that only the daemon's user can open. It is a lock of fcntl(2): it belongs to this process
alone, its forks do not have it, and the kernel gives it up when the process ends. A pid file whose lock is free is
stale, and is replaced. It is replaced and not written to, because it may be a link to another file. Devices, pipes and
sockets are never replaced; /dev/null means that there is to be no pid file.

Rules of this file: the lock's file is removed only by the process that has the lock, and a lock counts only if its file
still has its name; so two daemons never have two locks.
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

NULL_DEVICE = os.makedev(1, 3)

_ATTEMPTS = 100
"""Times that other processes may replace the lock's file before the start fails."""


class PidFile:
    """The daemon's pid file as long as it serves; with the path None every method does nothing."""

    def __init__(self, path: Path | None) -> None:
        """Lock the path and make an empty file there. Raises Refusal: another daemon has it, or it cannot be made."""
        self._path = None if path is None or _is_null_device(path) else path
        self._lock = self._descriptor = -1
        if path is None or self._path is None:
            return
        if not _may_be_replaced(path):
            raise Refusal(f"the pid file {path} is a device, a pipe or a socket, and is left as it is; choose another "
                          "place with -pidfile")
        self._lock_path = path.with_name(f"{path.name}.lock")
        try:
            self._lock = self._open_lock()
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
        """Write the pid, when the daemon serves. Raises Refusal."""
        if self._path is None:
            return
        try:
            os.write(self._descriptor, b"%d\n" % os.getpid())
        except OSError as error:
            raise self._refusal(error) from None

    def release(self) -> None:
        """Remove the file, unless another process has replaced it, and give up the lock.

        To be called when the daemon serves no more: the next one may start while this one waits for its servers to end.
        """
        if self._path is None or self._descriptor < 0:
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), self._path.lstat()):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1
        self._unlock()

    def _open_lock(self) -> int:
        """The locked descriptor of the lock's file. Raises OSError, or Refusal when another daemon has the lock."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        for _ in range(_ATTEMPTS):
            try:
                descriptor = os.open(self._lock_path, flags, 0o600)
            except OSError:
                if not self._lock_path.is_symlink():
                    raise
                self._lock_path.unlink(missing_ok=True)
                continue
            descriptor = lift_descriptor(descriptor)  # before locking: closing any descriptor of the file unlocks it
            kept = False
            try:
                kept = self._lock_file(descriptor)
            finally:
                if not kept:
                    os.close(descriptor)
            if kept:
                return descriptor
        raise OSError(0, f"{self._lock_path} is replaced again and again")

    def _lock_file(self, descriptor: int) -> bool:
        """Lock an open file and write the pid into it; False when it is not, or no longer, the lock's file.

        Raises Refusal when another daemon has the lock.
        """
        status = os.fstat(descriptor)
        private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        if not stat.S_ISREG(status.st_mode) or not private or status.st_nlink > 1:
            # Other users could lock it, or it is a file with a second name. Another daemon may have replaced it by now.
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
        """Whether the lock's path still leads to the file with this status."""
        try:
            return os.path.samestat(status, self._lock_path.lstat())
        except FileNotFoundError:
            return False

    def _unlock(self) -> None:
        """Remove the lock's file and give up the lock, if this process has it."""
        if self._lock >= 0:
            with suppress(OSError):
                if self._has_its_name(os.fstat(self._lock)):
                    self._lock_path.unlink()
            os.close(self._lock)
            self._lock = -1

    def _refusal(self, error: OSError | ValueError) -> Refusal:
        """The Refusal for an error of the pid file or its lock."""
        why, remedy = (error.strerror, remedy_for(error.errno)) if isinstance(error, OSError) else (str(error), None)
        how = remedy or "choose another place with -pidfile"
        return Refusal(f"cannot write the pid file {self._path}: {why}; {how}")


def _is_null_device(path: Path) -> bool:
    """Whether a path leads to /dev/null, by whatever name."""
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == NULL_DEVICE


def _may_be_replaced(path: Path) -> bool:
    """Whether a path is free, or has a file, a link or a folder: opening shows which will do. All else stays."""
    with suppress(OSError):
        return stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR)
    return True
