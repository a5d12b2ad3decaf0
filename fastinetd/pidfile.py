"""The pid file: written when the daemon serves, and locked, so that no second daemon takes the first one's place.

Theory. The lock is fcntl's: it belongs to this process alone, its forks do not have it, and the kernel gives it up
whatever ends the process. So a file that lies there unlocked is stale, and is replaced. It is replaced and not written
to, because it may be a link to something else.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from fastinetd.options import Refusal


class PidFile:
    """A path that is the daemon's as long as it serves; without one, None, every method does nothing."""

    def __init__(self, path: Path | None) -> None:
        """Put an empty file there. Raises Refusal if another daemon has the path, or no file can be made."""
        self._path = path
        self._descriptor = -1
        while path is not None and self._descriptor < 0:
            try:
                self._remove_stale(path)
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileExistsError:
                continue  # another daemon begins in the same moment; the next look tells
            except OSError as error:
                raise self._refusal(error) from None

    def __enter__(self) -> PidFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file, unless the next daemon has replaced it."""
        if self._path is None:
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), self._path.lstat()):
                self._path.unlink()
        os.close(self._descriptor)

    def write(self) -> None:
        """The daemon serves. Raises Refusal if that cannot be written down."""
        if self._path is None:
            return
        try:
            os.write(self._descriptor, b"%d\n" % os.getpid())
        except OSError as error:
            raise self._refusal(error) from None

    def release(self) -> None:
        """It serves no more: another may begin, while this one waits for the end of its servers."""
        if self._path is not None:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def _remove_stale(self, path: Path) -> None:
        """Remove what lies there, if nobody has it."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError:  # a link, or what else is no pid file
            path.unlink()
            return
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                path.unlink()
        except FileNotFoundError:
            return
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode(errors="replace").strip()
            who = f"process {pid}" if pid else "one that is just starting"
            why = f"another daemon, {who}, has the pid file {path}"
            raise Refusal(f"{why}; end it first, or choose another place with -pidfile") from None
        finally:
            os.close(descriptor)

    def _refusal(self, error: OSError) -> Refusal:
        return Refusal(f"cannot write the pid file {self._path}: {error.strerror}; choose another place with -pidfile")
