"""Reads the files of a configuration: the one module of this package that touches the file system.

The readers are pure; they get included files through a callback (entries.Sources), which is `_Files.sources` here.
Files are decoded as UTF-8 with surrogateescape, so that any bytes pass through unharmed.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from fastinetd.config.build import build_config
from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import Entries
from fastinetd.config.inetd import read_inetd
from fastinetd.config.model import Config, Place
from fastinetd.config.toml import read_toml
from fastinetd.config.xinetd import read_xinetd

KINDS = ("auto", "xinetd", "inetd", "toml")
"""Formats of a configuration; `auto` is one of the others, by name and content."""

MOST_BYTES = 4 << 20
"""Bytes of all files of a configuration together: a blocklist of 250,000 addresses. Some files have no end, and the
supervisor does nothing else while it reads: each MiB takes about two seconds and up to 100 MiB of memory."""

WRITTEN_WITHIN = 3.0
"""Seconds within which the writer of a pipe (`-f <(generate)`) must write or close it."""

INCLUDE_DEPTH = 32
"""Includes within includes that are followed: deeper ones are a mistake, and each takes frames of Python's stack."""


def load_config(
    path: str,
    *,
    kind: str = "auto",
    dialect: str = "debian",
    report: Report,
    inetd_compat: str | None = None,
    keep_environment: bool = False,
) -> Config:
    """The configuration in the file `path` and in all files that it includes.

    `kind` is one of KINDS, `dialect` a key of dialects.DIALECTS. `inetd_compat` is the path of an inetd.conf to be read
    after an xinetd.conf; its services get the `defaults` of the xinetd.conf. `keep_environment`: the servers of an
    inetd.conf get the whole environment, though the dialect's inetd removes variables from it.
    Errors, also files that cannot be read, go to `report`; with `Config.fatal` the result must not be used.
    """
    if kind not in KINDS:
        report.add("unknown-kind", Place(path, 1), kind=kind, known=", ".join(KINDS))
        return Config(path, (), fatal=True)
    files = _Files(report)
    try:
        text, identity = files.read_file(path)
    except (OSError, ValueError) as error:
        report.add("cannot-read", Place(path, 1), path=path, reason=_reason_of(error))
        return Config(path, (), fatal=True)
    if kind == "auto":
        kind = guess_kind(path, text)
    with files.chained(identity):
        if kind == "inetd":
            config = read_inetd(text, path, dialect, report, keep_environment=keep_environment)
        elif kind == "toml":
            config = read_toml(text, path, files.sources, report)
        else:
            config = _load_xinetd(text, path, files, report, inetd_compat, dialect)
    return replace(config, kind=kind, files=tuple(dict.fromkeys(files.seen)))


def guess_kind(path: str, text: str) -> str:
    """The kind of a configuration file by its name and, if this is of inetd, by its first line: xinetd, inetd, toml."""
    name = path.rpartition("/")[2]
    if name.endswith(".toml"):
        return "toml"
    if "inetd.conf" not in name or "xinetd" in name:
        return "xinetd"
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] == "#":
            continue
        # A line of inetd.conf has six words or more; these have one or two.
        begins = words[0].lower() in ("service", "defaults", "include", "includedir")
        return "xinetd" if begins and len(words) <= 2 else "inetd"
    return "inetd"


def _load_xinetd(
    text: str, path: str, files: _Files, report: Report, inetd_compat: str | None, dialect: str
) -> Config:
    """The Config of an xinetd.conf's `text`, with the services of the inetd.conf `inetd_compat`."""
    entries = Entries()
    read_xinetd(text, path, entries, files.sources, report)
    beside = None
    if inetd_compat is not None:
        try:
            beside = read_inetd(files.read_file(inetd_compat)[0], inetd_compat, dialect, report, as_xinetd=True)
        except FileNotFoundError:
            pass  # no error, as in xinetd
        except (OSError, ValueError) as error:
            place = Place(inetd_compat, 1)
            report.add("cannot-include", place, path=inetd_compat, reason=_reason_of(error))
    return build_config(entries, path, report, beside=beside)


def _reason_of(error: OSError | ValueError) -> str:
    """The reason in a diagnostic for an error of `_Files.read_file`."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


_Identity = tuple[int, int]
"""Device and inode, which a file has under each of its names."""


class _Files:
    """The files that have been read, the bytes that may still be, and the chain of files that include one another."""

    def __init__(self, report: Report) -> None:
        self.seen: list[str] = []
        self._room = MOST_BYTES
        self._chain: list[_Identity] = []  # each file is included by the one before it
        self._report = report

    def read_file(self, path: str, regular: bool = False) -> tuple[str, _Identity]:
        """The text and identity of a file.

        Raises OSError: open(2), read(2), EINVAL for a file that is not regular if `regular` is set, EFBIG beyond
        MOST_BYTES, EILSEQ for UTF-16, ETIMEDOUT for a pipe without a writer. Raises ValueError for a path with a NUL.
        """
        self.seen.append(path)
        # O_NONBLOCK: open(2) of a FIFO, which a folder may hold, waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if regular and not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            data = bytearray()
            while part := _read_part(descriptor, min(status.st_size, self._room)):
                data += part
                if len(data) > self._room:
                    raise OSError(errno.EFBIG, f"with it the configuration has more than {MOST_BYTES >> 20} MiB")
        finally:
            os.close(descriptor)
        self._room -= len(data)
        if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise OSError(errno.EILSEQ, "it is written in UTF-16 (`iconv -f UTF-16 -t UTF-8` makes plain text of it)")
        text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        return text, (status.st_dev, status.st_ino)

    def sources(self, keyword: str, path: str, place: Place) -> Iterator[tuple[str, str]]:
        """Name and text of each file of an `include` or `includedir` line; `place` is that of its path.

        A file that cannot be read, or includes itself, is reported and left out.
        """
        try:
            path = _resolve_path(path, place.file)
            paths = [path] if keyword == "include" else self._list_folder(path, place)
        except (OSError, ValueError) as error:
            self._report.add("cannot-include", place, path=path, reason=_reason_of(error))
            return
        for name in paths:
            try:
                text, identity = self.read_file(name, regular=True)
            except (OSError, ValueError) as error:
                self._report.add("cannot-include", place, path=name, reason=_reason_of(error))
                continue
            if identity in self._chain:
                self._report.add("include-cycle", place, path=name)
            elif len(self._chain) >= INCLUDE_DEPTH:
                self._report.add("include-depth", place, depth=INCLUDE_DEPTH)
            else:
                with self.chained(identity):
                    yield name, text

    @contextmanager
    def chained(self, identity: _Identity) -> Iterator[None]:
        """Keep a file in the chain while its text is read: to include it again is a cycle."""
        self._chain.append(identity)
        try:
            yield
        finally:
            self._chain.pop()

    def _list_folder(self, path: str, place: Place) -> list[str]:
        """The paths of an includedir's regular files in the order of their bytes, without names with a dot or a `~` at
        the end; OSError of scandir(3)."""
        self.seen.append(path)
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        paths = []
        for entry in entries:
            if "." in entry.name or entry.name.endswith("~"):
                if not entry.name.startswith("."):
                    self._report.add("name-skipped", place, path=entry.path)
                continue
            with suppress(OSError):  # ELOOP
                if entry.is_file():  # links are followed
                    paths.append(entry.path)
                    continue
            self._report.add("not-a-file", place, path=entry.path)
        return paths


def _read_part(descriptor: int, expected: int) -> bytes:
    """The next bytes of a file, about `expected`; b"" at its end. Raises ETIMEDOUT if nothing is written to a pipe."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(WRITTEN_WITHIN * 1000):
        raise OSError(errno.ETIMEDOUT, f"nothing was written to it for {WRITTEN_WITHIN:g} seconds")
    return os.read(descriptor, max(expected, 4096) + 1)  # the one more meets the end of a file in the same call


def _resolve_path(path: str, including: str) -> str:
    """The path of a file that the file `including` names.

    A relative one starts at the folder of `including` or, if only that exists, at the current one, as in xinetd.
    """
    if path.startswith("/"):
        return path
    folder, slash, _ = including.rpartition("/")
    near = folder + slash + path
    return path if not Path(near).exists() and Path(path).exists() else near
