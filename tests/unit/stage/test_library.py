"""The library that holds programs: one descriptor, out of the way of servers, of the file that was built."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fastinetd.stage import library as stage
from support.stage import LIBRARY


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Opened by each test, beside what others have open."""
    library = cache(stage.library_descriptor.__wrapped__)
    monkeypatch.setattr(stage, "library_descriptor", library)
    yield
    if library.cache_info().currsize and (descriptor := library()) >= 0:
        os.close(descriptor)


def test_it_is_the_file_that_was_built() -> None:
    descriptor = stage.library_descriptor()
    assert os.path.samestat(os.fstat(descriptor), LIBRARY.stat())
    assert os.pread(descriptor, 4, 0) == b"\x7fELF"
    assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def test_it_is_opened_once_and_kept_above_what_servers_get() -> None:
    descriptor = stage.library_descriptor()
    assert descriptor == stage.library_descriptor()
    assert descriptor >= 64
    assert not os.get_inheritable(descriptor)


def test_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine for which it cannot be built."""
    monkeypatch.setattr(stage, "__file__", str(tmp_path / "stage.py"))
    assert stage.library_descriptor() == -1
