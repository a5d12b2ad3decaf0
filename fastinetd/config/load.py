"""Finds and reads the files of a configuration: the one module of this package that touches the file system.

The readers are pure; they ask for included files through a callback (entries.Sources), which is
`_Files.sources` here. Files are decoded as UTF-8 with surrogateescape, so that any bytes pass through
unharmed.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from fastinetd.config import inetd, toml, xinetd
from fastinetd.config.build import build
from fastinetd.config.diagnostics import Report
from fastinetd.config.entries import Entries
from fastinetd.config.model import Config, Place

KINDS = ("auto", "xinetd", "inetd", "toml")

MOST = 4 << 20
"""Bytes of all files together: a blocklist of 250,000 addresses. Some files have no end, and a reload that reads for
minutes would keep everybody waiting: what is read takes up to a hundred times its size in memory, and about two
seconds for each MiB."""

PATIENCE = 3.0
"""Seconds to wait for the writer of a pipe (`-f <(generate)`)."""

DEPTH = 32
"""How deep files may include files; a cycle by another name (a link to a folder) ends here."""


def load(
    path: str,
    *,
    kind: str = "auto",
    dialect: str = "debian",
    report: Report,
    inetd_compat: str | None = None,
    keep_environment: bool = False,
) -> Config:
    """The configuration in the file `path`, with all it includes.

    `kind` is one of KINDS, `dialect` one of inetd.DIALECTS. `inetd_compat` names an inetd.conf to be read
    after an xinetd.conf; its services get the `defaults` of that file. `keep_environment`: see inetd.read.
    Never raises for what a file holds or for a file that cannot be read: that is reported, and `Config.fatal`
    tells that the result must not be used.
    """
    if kind not in KINDS:
        report.add("unknown-kind", Place(path, 1), kind=kind, known=", ".join(KINDS))
        return Config(path, (), fatal=True)
    files = _Files(report)
    try:
        text, identity = files.read(path)
    except (OSError, ValueError) as error:
        report.add("cannot-read", Place(path, 1), path=path, reason=_reason(error))
        return Config(path, (), fatal=True)
    if kind == "auto":
        kind = guess(path, text)
    with files.reading(identity):
        if kind == "inetd":
            config = inetd.read(text, path, dialect, report, keep_environment=keep_environment)
        elif kind == "toml":
            config = toml.read(text, path, files.sources, report)
        else:
            config = _xinetd(text, path, files, report, inetd_compat, dialect)
    return replace(config, kind=kind, files=tuple(dict.fromkeys(files.seen)))


def guess(path: str, text: str) -> str:
    """The kind of a configuration file: by its name, and by its first lines that say something."""
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


def _xinetd(text: str, path: str, files: _Files, report: Report, inetd_compat: str | None, dialect: str) -> Config:
    entries = Entries()
    xinetd.read(text, path, entries, files.sources, report)
    beside = None
    if inetd_compat is not None:
        try:
            beside = inetd.read(files.read(inetd_compat)[0], inetd_compat, dialect, report, as_xinetd=True)
        except FileNotFoundError:
            pass  # as in xinetd, there need not be one
        except (OSError, ValueError) as error:
            place = Place(inetd_compat, 1)
            report.add("cannot-include", place, path=inetd_compat, reason=_reason(error))
    return build(entries, path, report, beside=beside)


def _reason(error: OSError | ValueError) -> str:
    """What went wrong; a ValueError is a path that no file can have."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


_Identity = tuple[int, int]
"""Device and inode: a file is the same under all its names."""


class _Files:
    """The files read so far, and the chain of files that are being read now (each included by the one before
    it)."""

    def __init__(self, report: Report) -> None:
        self.seen: list[str] = []
        self._room = MOST
        self._chain: list[_Identity] = []
        self._report = report

    def read(self, path: str, regular: bool = False) -> tuple[str, _Identity]:
        """The text of a file. Raises OSError, also for what is not a regular file where `regular` asks for
        one, and ValueError for a path that no file can have."""
        self.seen.append(path)
        # A folder may hold anything: opening a pipe must not wait for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if regular and not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            data = bytearray()
            while part := _read_part(descriptor, min(status.st_size, self._room)):
                data += part
                if len(data) > self._room:
                    raise OSError(errno.EFBIG, f"with it the configuration has more than {MOST >> 20} MiB")
        finally:
            os.close(descriptor)
        self._room -= len(data)
        text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        return text, (status.st_dev, status.st_ino)

    def sources(self, keyword: str, path: str, place: Place) -> Iterator[tuple[str, str]]:
        """What a reader's `include` or `includedir` at `place` means: names and texts, in turn."""
        try:
            path = _resolved(path, place.file)
            paths = [path] if keyword == "include" else self._folder(path, place)
        except (OSError, ValueError) as error:
            self._report.add("cannot-include", place, path=path, reason=_reason(error))
            return
        for name in paths:
            try:
                text, identity = self.read(name, regular=True)
            except (OSError, ValueError) as error:
                self._report.add("cannot-include", place, path=name, reason=_reason(error))
                continue
            if identity in self._chain:
                self._report.add("include-cycle", place, path=name)
            elif len(self._chain) >= DEPTH:
                self._report.add("include-depth", place, depth=DEPTH)
            else:
                with self.reading(identity):
                    yield name, text

    @contextmanager
    def reading(self, identity: _Identity) -> Iterator[None]:
        """While a reader works on the text of a file, including it again is a cycle."""
        self._chain.append(identity)
        try:
            yield
        finally:
            self._chain.pop()

    def _folder(self, path: str, place: Place) -> list[str]:
        """The files of an includedir in the order of their bytes, without names with a dot or ending in
        `~`."""
        self.seen.append(path)
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        paths = []
        for entry in entries:
            if "." in entry.name or entry.name.endswith("~"):
                if not entry.name.startswith("."):
                    self._report.add("name-skipped", place, path=entry.path)
                continue
            with suppress(OSError):  # a loop of links
                if entry.is_file():  # links are followed
                    paths.append(entry.path)
                    continue
            self._report.add("not-a-file", place, path=entry.path)
        return paths


def _read_part(descriptor: int, expected: int) -> bytes:
    """The next bytes of a file; b"" at its end. Raises OSError when a pipe's writer does not write in time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(PATIENCE * 1000):
        raise OSError(errno.ETIMEDOUT, f"nothing was written to it for {PATIENCE:g} seconds")
    return os.read(descriptor, max(expected, 4096) + 1)


def _resolved(path: str, including: str) -> str:
    """A relative path starts at the folder of the file that names it or, as in xinetd, at the current
    folder."""
    if path.startswith("/"):
        return path
    folder, slash, _ = including.rpartition("/")
    near = folder + slash + path
    return path if not Path(near).exists() and Path(path).exists() else near
