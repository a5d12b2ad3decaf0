"""Which capability keeps others out of a program while it starts: one that is harmless, and to be had."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastinetd.system import guard as module
from fastinetd.system.guard import NET_BIND_SERVICE, NET_BROADCAST, WAKE_ALARM, find_guard

ALL = 2**41 - 1
DOCKER = 0xA80425FB  # what it leaves to root


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """Say what the process may have, and which port is the first for everybody."""

    def has(permitted: int, inheritable: int = 0, bounding: int = ALL, first_port: str = "1024") -> int | None:
        (tmp_path / "port").write_text(first_port)
        monkeypatch.setattr(module, "ANY_PORT", tmp_path / "port")
        monkeypatch.setattr(module, "_capability_sets", lambda: (permitted, bounding, inheritable))
        return find_guard()

    return has


def test_the_choice(has) -> None:  # type: ignore[no-untyped-def]
    assert has(ALL) == NET_BROADCAST
    assert has(ALL & ~(1 << NET_BROADCAST)) == WAKE_ALARM
    assert has(ALL, bounding=1 << WAKE_ALARM) == WAKE_ALARM
    assert has(0) is None
    assert has(ALL, inheritable=ALL) is None, "it is taken out of those a program inherits, so it must not be there"


def test_low_ports_where_they_are_everybodys(has) -> None:  # type: ignore[no-untyped-def]
    assert has(DOCKER, bounding=DOCKER) is None
    assert has(DOCKER, bounding=DOCKER, first_port="0\n") == NET_BIND_SERVICE
    assert has(ALL, first_port="0\n") == NET_BROADCAST


def test_a_system_that_says_nothing(has, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "read_own_status", dict)
    assert find_guard() is None
    monkeypatch.undo()
    monkeypatch.setattr(module, "ANY_PORT", Path("/nonexistent"))
    assert module._harmless_capabilities() == [NET_BROADCAST, WAKE_ALARM]


def test_this_process() -> None:
    text = Path("/proc/self/status").read_text()
    found = dict(re.findall(r"^(Cap[A-Z][a-z]+):\t([0-9a-f]+)$", text, re.MULTILINE))
    assert module._capability_sets() == tuple(int(found[name], 16) for name in ("CapPrm", "CapBnd", "CapInh"))
