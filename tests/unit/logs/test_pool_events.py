"""What is said of pools: every kind of event has its text, its level and a way out."""

from __future__ import annotations

import errno
import platform
import re
from pathlib import Path

import pytest

from fastinetd.core.layout import RecordKind
from fastinetd.core.records import JournalRecord
from fastinetd.logs.lines import Level
from fastinetd.logs.pool_events import BY_EXEC, UNHOLDABLE_REASONS, pool_message
from fastinetd.pools.pool import PoolEvent
from fastinetd.pools.system_calls import NAMES
from support.stage import PACKAGE


def said(event: int, value: int = 0) -> tuple[Level, str]:
    level, text = pool_message(JournalRecord(0.0, 0, RecordKind.POOL, event, 0, value, False, 0, "", 0, 0), "web")
    assert text.startswith("service web: ")
    return level, text.removeprefix("service web: ")


@pytest.mark.parametrize(
    ("event", "value", "level", "text"),
    [
        (PoolEvent.NO_START, 2, Level.ERROR, "its pool cannot start a process: "),
        (PoolEvent.DIED_EARLY, 3, Level.ERROR, "a process of its pool ended with status 3 before it was ready"),
        (PoolEvent.DIED_EARLY, 0, Level.ERROR, "a process of its pool ended with status 0 before it was ready"),
        (PoolEvent.DIED_EARLY, -9, Level.ERROR, "a process of its pool ended by signal 9 before it was ready"),
        (PoolEvent.TOO_SLOW, 60, Level.ERROR, "a process of its pool was not ready after 60 seconds"),
        (PoolEvent.UNHOLDABLE, 1, Level.ERROR, "its program has threads before it can be held"),
        (PoolEvent.UNHOLDABLE, 2, Level.ERROR, "its program has more files open"),
        (PoolEvent.UNHOLDABLE, 99, Level.ERROR, "its program cannot be held; "),
        (PoolEvent.HELD_EARLY, 290, Level.INFO, "its program is held at eventfd2, before its first use"),
        (PoolEvent.HELD_EARLY, 9999, Level.INFO, "its program is held at unknown, before its first use"),
        (PoolEvent.HELD_AT_ONCE, 290, Level.WARNING, "its program is held at eventfd2, hardly begun"),
        (PoolEvent.HELD_AT_MAIN, 0, Level.WARNING, "snapshot = first_io cannot be had here"),
        (PoolEvent.UNINTELLIGIBLE, 0, Level.ERROR, "a process of its pool said what is not understood and was ended"),
        (PoolEvent.HUNG, 5, Level.ERROR, "a process of its pool left connections unanswered for 5 s"),
        (PoolEvent.OVERTIME, 4711, Level.WARNING, "its worker with pid 4711 was ended after max_runtime"),
    ],
)  # fmt: skip
def test_texts(event: PoolEvent, value: int, level: Level, text: str) -> None:
    found = said(event, value)
    assert found[0] == level
    assert found[1].startswith(text), found


def test_what_helps_against_a_limit() -> None:
    assert said(PoolEvent.NO_START, errno.EMFILE)[1].endswith("more open files (ulimit -n, LimitNOFILE)")
    assert said(PoolEvent.NO_START, errno.ENOENT)[1].endswith("until another one is ready")


def test_a_system_error_is_named() -> None:
    assert "ENOENT" in said(PoolEvent.NO_START, 2)[1] or "No such file" in said(PoolEvent.NO_START, 2)[1]


@pytest.mark.parametrize("event", PoolEvent)
def test_every_one_has_a_text(event: PoolEvent) -> None:
    """And whoever reads of an error knows that clients are served all the same."""
    level, text = said(event, 1)
    assert level != Level.ERROR or BY_EXEC in text


def test_refusals_are_those_of_the_library() -> None:
    header = (PACKAGE / "stage" / "stage.h").read_text()
    found = re.search(r"enum stage_refusal \{(.*?)\}", header, re.DOTALL)
    assert found is not None
    names = re.findall(r"\bSTAGE_\w+", re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL))
    assert sorted(UNHOLDABLE_REASONS) == list(range(1, len(names) + 1))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
def test_system_calls_have_their_numbers() -> None:
    headers = [Path(path) for path in ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h")]
    for header in headers:
        if header.exists():
            numbers = {int(number): name for name, number in re.findall(r"__NR_(\w+) (\d+)", header.read_text())}
            known = {number: name for number, name in NAMES.items() if number in numbers}
            assert known == {number: name for number, name in numbers.items() if number in NAMES}
            assert len(known) > 350
            return
    pytest.skip("the kernel's headers are not installed")
