"""What the supervisor does on a signal, as far as it can be told without a daemon."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fastinetd.supervisor import supervisor


def test_abrt_compares_the_counts_and_starts_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """With -cc each signal would otherwise add another series of checks."""
    done: list[str] = []
    monkeypatch.setattr(supervisor, "check_counts", lambda *_: done.append("compared"))
    loop = SimpleNamespace(later=lambda *_: done.append("timer"))
    each = SimpleNamespace(board=None, messages=None, loop=loop, options=SimpleNamespace(check_every=1.0))
    supervisor.Supervisor._check(each)  # type: ignore[arg-type]
    assert done == ["compared"]
